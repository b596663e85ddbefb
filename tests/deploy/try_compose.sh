#!/usr/bin/env bash
# Tries deploy/docker-compose.yml for real, on a Docker daemon of its own, and leaves nothing behind.
#
# As root, with dockerd, docker, docker-compose, debootstrap, kubectl, curl, ip and nsenter. No image registry is needed: the base image is made with debootstrap, from the
# mirror that apt uses on this machine; pip in the build uses this machine's index and trusts this machine's certificates. The daemon builds in the machine's own network
# (touching no rule of it), and runs the cluster in a network namespace.
#
#   BASE_ROOTFS=DIR    a root file system that debootstrap made earlier, instead of a new one
#   WORK=DIR           where all files go (a new directory that is removed at the end); must not be on overlayfs
#   PRIVILEGED=1|0     which form of the nodes to try; by default what this machine's capabilities allow
#   KEEP_LOGS=DIR      where the containers' logs are put when something fails
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
work=${WORK:-$(mktemp -d /var/tmp/kubeling-compose.XXXXXX)}
mkdir -p "$work"
name=klc$$
netns=/run/netns/$name
dockerd_pid=
began=$(date +%s%N)
plugins=$([ -e /run/docker ] || echo /run/docker)

export DOCKER_HOST=unix://$work/docker.sock COMPOSE_PROJECT_NAME=$name
export IMAGE=kubeling:$name BASE=kubeling-base:$name API_PORT=7443 BUILD_NETWORK=host DOCKER_BUILDKIT=0
files=(-f "$work/src/deploy/docker-compose.yml" -f "$work/src/deploy/docker-compose.loadbalancer.yml")

# -- words ----------------------------------------------------------------------------------------------------------------------------
now() { echo $((($(date +%s%N) - began) / 1000000)); }
step() { printf '%8d ms  %s\n' "$(now)" "$*"; }
fail() { step "FAILED: $*" >&2; exit 1; }
compose() { docker-compose "${files[@]}" "$@"; }
inside() { nsenter --net="$netns" "$@"; }
kube() { inside kubectl --kubeconfig "$work/admin.conf" --request-timeout=10s "$@"; }

# until_true SECONDS WHAT COMMAND…: waits for a condition with a deadline.
until_true() {
    local deadline=$(($(now) + $1 * 1000)) what=$2
    shift 2
    until "$@" >"$work/last" 2>&1; do
        [ "$(now)" -lt $deadline ] || fail "$what: $(tail -n 3 "$work/last" | tr '\n' ' ')"
        sleep 0.3
    done
}

# -- the daemon -----------------------------------------------------------------------------------------------------------------------
# start_dockerd EXTRA-SETTINGS PREFIX…
start_dockerd() {
    local extra=$1
    shift
    cat >"$work/daemon.json" <<JSON
{ "data-root": "$work/data", "exec-root": "$work/exec", "pidfile": "$work/docker.pid", "hosts": ["$DOCKER_HOST"], "cgroup-parent": "/$name"$extra }
JSON
    "$@" dockerd --config-file "$work/daemon.json" >>"$work/dockerd.log" 2>&1 &
    dockerd_pid=$!
    until_true 30 "dockerd does not answer (see $work/dockerd.log)" docker version
}

stop_dockerd() {
    [ -n "$dockerd_pid" ] || return 0
    kill -TERM "$dockerd_pid" 2>/dev/null || true
    wait "$dockerd_pid" 2>/dev/null || true
    dockerd_pid=
}

cleanup() {
    local status=$?
    set +e
    trap - EXIT
    if [ $status -ne 0 ] && [ -S "$work/docker.sock" ]; then
        local logs=${KEEP_LOGS:-/var/tmp/kubeling-compose-failed}
        mkdir -p "$logs"
        compose ps >"$logs/ps" 2>&1
        for container in $(docker ps -aq); do
            docker logs "$container" >"$logs/$(docker inspect -f '{{.Name}}' "$container" | tr -d /).log" 2>&1
        done
        cp "$work/dockerd.log" "$logs/"
        echo "the containers' logs are in $logs" >&2
    fi
    [ -S "$work/docker.sock" ] && [ -e "$work/src" ] && compose down -v -t 1 >/dev/null 2>&1
    stop_dockerd
    awk -v at="$work/" 'index($5, at) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r at; do umount -l "$at"; done
    [ -e "$netns" ] && ip netns del "$name"
    find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null
    [ -z "$plugins" ] || rmdir "$plugins/plugins" "$plugins" 2>/dev/null
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# -- 1. images ------------------------------------------------------------------------------------------------------------------------
for tool in dockerd docker docker-compose debootstrap kubectl curl ip nsenter git; do
    command -v $tool >/dev/null || fail "there is no $tool on this machine"
done
[ "$(id -u)" = 0 ] || fail "only root can start dockerd"

rootfs=${BASE_ROOTFS:-}
if [ -z "$rootfs" ]; then
    rootfs=$work/rootfs
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $codename" 'Created-By: Packages' | head -n 1)
    debootstrap --variant=minbase --include=ca-certificates "$codename" "$rootfs" "$mirror" >"$work/debootstrap.log" 2>&1 \
        || fail "debootstrap: $(tail -n 2 "$work/debootstrap.log")"
    step "base system made with debootstrap"
fi

mkdir "$work/src"
git -C "$repo" ls-files -z --cached --others --exclude-standard \
    | tar -C "$repo" --null --ignore-failed-read -T - -c 2>/dev/null | tar -C "$work/src" -x
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$work/src/deploy/ca/this-machine.crt"
index=$(python3 -m pip config get global.index-url 2>/dev/null || true)
[ -z "$index" ] || export PIP_INDEX_URL=${PIP_INDEX_URL:-$index}

start_dockerd ', "bridge": "none", "iptables": false, "ip-forward": false, "ip-masq": false' env
tar -C "$rootfs" --exclude=./var/cache/apt/archives/*.deb -c . | docker import - "$BASE" >/dev/null
step "base image imported"
compose build setup >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; fail "the build"; }
step "image built: $(docker image inspect -f '{{.Size}}' "$IMAGE" | awk '{ printf "%.0f MB", $1 / 1e6 }')"
stop_dockerd

# -- 2. up ----------------------------------------------------------------------------------------------------------------------------
ip netns add "$name"
inside ip link set lo up
start_dockerd '' nsenter --net="$netns"

# Bit 24 is CAP_SYS_RESOURCE, without which nothing privileged can be started.
bounding=$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
privileged=${PRIVILEGED:-$(((16#$bounding >> 24) & 1))}
[ "$privileged" = 1 ] || files+=(-f "$work/src/deploy/docker-compose.unprivileged.yml")

start=$(now)
compose up -d >"$work/up.log" 2>&1 || { tail -n 20 "$work/up.log" >&2; fail "docker-compose up"; }
step "docker-compose up returned (privileged: $privileged)"
status=$(timeout 120 docker wait "$(compose ps -q bootstrap)") || fail "bootstrap did not end: nodes or DNS are not ready"
[ "$status" = 0 ] || fail "bootstrap ended with status $status"
step "bootstrap ended, $(($(now) - start)) ms after the start of \`up\`"
compose run -T --rm --no-deps --entrypoint cat setup /pki/admin/admin.conf >"$work/admin.conf" 2>>"$work/up.log"
kube wait --for=condition=Ready nodes --all --timeout=60s >/dev/null
kube get nodes -o wide
step "$(compose ps -q | wc -l) containers, nodes are Ready"

# -- 3. a workload --------------------------------------------------------------------------------------------------------------------
kube apply -f "$repo/examples/web.yaml" >/dev/null
inside kubectl --kubeconfig "$work/admin.conf" rollout status deployment/web --timeout=120s >/dev/null
kube get pods -o wide
step "examples/web.yaml is rolled out"

pods_of_web() { kube get pods -l app=web -o name | sed 's,pod/,,' | sort; }
# all_answer URL: every pod of web answers at URL, sooner or later
all_answer() {
    : >"$work/answers"
    for _ in $(seq 40); do inside curl -fsS -m 5 "$1" >>"$work/answers" || return 1; done
    [ "$(sed -n 's/hello from \([^ ]*\) .*/\1/p' "$work/answers" | sort -u)" = "$(pods_of_web)" ]
}
port=$(kube get service web -o jsonpath='{.spec.ports[0].nodePort}')
subnet=$(. "$work/src/deploy/.env" && echo "$SUBNET")
for node in 41 42; do
    until_true 30 "not all pods answer at the node port of .$node" all_answer "http://$subnet.$node:$port/"
done
[ "$(grep -o 'on node-[12]' "$work/answers" | sort -u | wc -l)" = 2 ] || fail "the pods are not spread over both nodes"
step "all pods answer through the node port of both nodes"

external() { address=$(kube get service web -o jsonpath='{.status.loadBalancer.ingress[0].ip}') && [ -n "$address" ]; }
until_true 30 "the Service gets no address" external
until_true 30 "not all pods answer at $address" all_answer "http://$address/"
step "all pods answer through the LoadBalancer address $address"

kube run ask --image=kubeling.local/host --restart=Never --command -- \
    sh -c 'for i in $(seq 40); do curl -fsS -m 5 http://web.default.svc.cluster.local/ || exit 1; done' >/dev/null
inside kubectl --kubeconfig "$work/admin.conf" wait --for=jsonpath='{.status.phase}'=Succeeded pod/ask --timeout=60s >/dev/null \
    || fail "a pod cannot reach the Service by name: $(kube logs ask | tail -n 3)"
[ "$(kube logs ask | sed -n 's/hello from \([^ ]*\) .*/\1/p' | sort -u)" = "$(pods_of_web)" ] || fail "not all pods answered the pod that asked"
step "all pods answer another pod, by the Service's DNS name"

# -- 4. loss --------------------------------------------------------------------------------------------------------------------------
# One object after another, as fast as kubectl can; what was acknowledged is written down with its time.
write() {
    local i=0
    while [ ! -e "$work/enough" ]; do
        i=$((i + 1))
        if kube create configmap "written-$i" >/dev/null 2>&1; then echo "$(now) written-$i" >>"$work/acknowledged"; fi
    done
}
: >"$work/acknowledged"
write &
writer=$!
acknowledged() { [ "$(awk -v after="$1" '$1 > after' "$work/acknowledged" | wc -l)" -ge 5 ]; }
until_true 20 "nothing is written" acknowledged 0

leads() { docker exec "$(compose ps -q "$1")" curl -fsS http://127.0.0.1:2381/metrics | grep -qE '^etcd_server_is_leader 1(\.0)?$'; }
leader=
find_leader() { for member in etcd-1 etcd-2 etcd-3; do if leads $member; then leader=$member; return 0; fi; done; return 1; }
until_true 20 "the store has no leader" find_leader
at=$(now)
docker kill "$(compose ps -q $leader)" >/dev/null
step "killed $leader, which led the store"
until_true 30 "no writes after the loss of the store's leader" acknowledged $(($(now) + 1000))
at_api=$(now)
docker kill "$(compose ps -q apiserver-1)" >/dev/null
step "killed apiserver-1"
until_true 30 "no writes after the loss of an apiserver" acknowledged $(($(now) + 1000))
touch "$work/enough"
wait $writer
gaps() { awk -v from="$1" -v to="$2" '$1 < from { last = $1 } $1 >= from && last { if ($1 - last > max) max = $1 - last; last = $1; if ($1 > to) exit } END { print max + 0 }' "$work/acknowledged"; }
step "longest time without a write: $(gaps $at $at_api) ms around the leader's loss, $(gaps $at_api 999999999) ms around the apiserver's"
kube get configmaps -o name | sed -n 's,configmap/,,p' | sort >"$work/there"
lost=$(awk '{ print $2 }' "$work/acknowledged" | sort | comm -23 - "$work/there")
[ -z "$lost" ] || fail "acknowledged, but not there: $lost"
step "all $(wc -l <"$work/acknowledged") acknowledged objects are there"

compose start $leader apiserver-1 >/dev/null 2>&1
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$(compose ps -q "$1")")" = healthy ]; }
for service in $leader apiserver-1; do until_true 60 "$service does not recover" healthy $service; done
step "$leader and apiserver-1 are healthy again"

compose restart node-2 >/dev/null 2>&1
restarted() { [ "$(kube get pods -l app=web -o jsonpath='{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' | sort -u)" = True ]; }
until_true 60 "node-2 does not recover" healthy node-2
until_true 90 "the pods of node-2 do not come back" restarted
until_true 60 "not all pods answer after the restart of node-2" all_answer "http://$address/"
step "node-2 restarted; all pods answer again"

# -- 5. down --------------------------------------------------------------------------------------------------------------------------
compose down -v >/dev/null 2>&1
left="$(docker ps -aq)$(docker volume ls -q)$(docker network ls -q --filter type=custom)"
[ -z "$left" ] || fail "left behind by down -v: $left"
step "docker-compose down -v leaves nothing"
