"""The parts of crilite that are plain functions."""

from __future__ import annotations

import io
import json
import os
import selectors
import struct
from pathlib import Path

import pytest

from kubeling.crilite import (
    attachment,
    cgroups,
    cni,
    credentials,
    endpoints,
    hostports,
    layers,
    network,
    reference,
    seccomp,
    signals,
    spec,
    users,
)
from kubeling.crilite.crilog import MAX_LINE, CriLog, stamp
from kubeling.crilite.errors import CriError, FailedPrecondition, InvalidArgument
from kubeling.crilite.execs import MAX_OUTPUT, Outputs
from kubeling.crilite.held import Held, exit_code, process_start
from kubeling.crilite.records import ContainerRecord, Folder
from kubeling.linux import capabilities
from kubeling.proto import cri_pb2 as cri
from tests.crilite import archives


class TestCriLog:
    def test_lines_and_what_is_left_of_them(self, tmp_path: Path) -> None:
        log = CriLog(str(tmp_path / "deep" / "log"))
        log.feed("stdout", b"one\ntw", 1_500_000_000_123_456_789)
        log.feed("stderr", b"other\n", 1_500_000_001_000_000_000)
        log.feed("stdout", b"o\nrest", 1_500_000_002_000_000_000)
        log.finish("stdout", 1_500_000_003_000_000_000)
        assert (tmp_path / "deep" / "log").read_text().splitlines() == [
            "2017-07-14T02:40:00.123456789Z stdout F one",
            "2017-07-14T02:40:01.000000000Z stderr F other",
            "2017-07-14T02:40:02.000000000Z stdout F two",
            "2017-07-14T02:40:03.000000000Z stdout F rest",
        ]

    @pytest.mark.parametrize("size", [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE + 5])
    @pytest.mark.parametrize("chunk", [1000, 65536])
    def test_long_lines_come_back_whole(self, tmp_path: Path, size: int, chunk: int) -> None:
        log = CriLog(str(tmp_path / "log"))
        line = os.urandom(size // 2 + 1).hex()[:size].encode()
        data = line + b"\nend\n"
        for start in range(0, len(data), chunk):
            log.feed("stdout", data[start : start + chunk], 0)
        records = [one.split(b" ", 3) for one in (tmp_path / "log").read_bytes().splitlines()]
        assert max(len(record[3]) for record in records) <= MAX_LINE
        assert [record[2] for record in records[:-2]] == [b"P"] * (len(records) - 2)
        assert b"".join(record[3] for record in records[:-1]) == line
        assert records[-1][2:] == [b"F", b"end"]

    def test_a_full_disk_drops_and_goes_on(self) -> None:
        log = CriLog("/dev/full")
        log.feed("stdout", b"lost\n", 0)
        assert log.dropped == len(stamp(0)) + len(" stdout F lost\n")


class TestOutputs:
    def test_each_command_has_some_for_sure_and_all_share_the_rest(self) -> None:
        outputs = Outputs(shared=1 << 20)
        endless, modest = {"stdout": bytearray(), "stderr": bytearray()}, {"stdout": bytearray(), "stderr": bytearray()}
        for _ in range(100):
            outputs.keep(endless, "stdout", bytes(1 << 16))
        assert len(endless["stdout"]) == (1 << 20) + (64 << 10)
        outputs.keep(modest, "stdout", b"x" * 1000)
        outputs.keep(modest, "stderr", bytes(1 << 20))
        assert (bytes(modest["stdout"]), len(modest["stderr"])) == (b"x" * 1000, 64 << 10)
        outputs.release(endless["stdout"])
        outputs.keep(modest, "stderr", bytes(100))
        assert len(modest["stderr"]) == (64 << 10) + 100

    def test_both_streams_fit_into_one_message(self) -> None:
        outputs, streams = Outputs(), {"stdout": bytearray(), "stderr": bytearray()}
        for name in ("stdout", "stderr"):
            outputs.keep(streams, name, bytes(16 << 20))
        assert sum(map(len, streams.values())) == MAX_OUTPUT < 16 << 20


class TestUsers:
    @pytest.fixture(autouse=True)
    def tables(self, tmp_path: Path) -> None:
        (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:100:200::/web:/bin/sh\nbroken\n")
        (tmp_path / "group").write_text("root:x:0:\nwww:x:300:web,other\nmore:x:400:web\n")
        self.folder = tmp_path

    def resolve(self, **wanted: object) -> tuple[int, int, tuple[int, ...], str]:
        me = users.resolve(wanted, str(self.folder / "passwd"), str(self.folder / "group"))
        return me.uid, me.gid, me.groups, me.home

    def test_by_every_way_of_naming(self) -> None:
        assert self.resolve() == (0, 0, (0,), "/root")
        assert self.resolve(name="web") == (100, 200, (200, 300, 400), "/web")
        assert self.resolve(name="web:www") == (100, 300, (300, 400), "/web")
        assert self.resolve(name="100:7") == (100, 7, (7, 300, 400), "/web")
        assert self.resolve(name="999") == (999, 0, (0,), "/")
        assert self.resolve(uid=100, name="root:www") == (100, 200, (200, 300, 400), "/web")
        assert self.resolve(uid=100, gid=5, groups=[9], strict=True) == (100, 5, (5, 9), "/web")
        with pytest.raises(LookupError, match="unable to find user x"):
            self.resolve(name="x")
        with pytest.raises(LookupError, match="unable to find group y"):
            self.resolve(name="web:y")

    def test_an_image_without_tables(self) -> None:
        assert users.resolve({"uid": 5}, "/nonexistent", "/nonexistent") == users.Identity(5, 0, (0,), "/")


class TestSpec:
    def test_command_and_arguments(self) -> None:
        image = spec.ImageConfig(entrypoint=("e",), cmd=("c",))
        assert spec.command(cri.ContainerConfig(), image) == ["e", "c"]
        assert spec.command(cri.ContainerConfig(args=["a"]), image) == ["e", "a"]
        assert spec.command(cri.ContainerConfig(command=["x"]), image) == ["x"]
        assert spec.command(cri.ContainerConfig(command=["x"], args=["a"]), image) == ["x", "a"]

    def test_the_last_value_of_a_name_counts(self) -> None:
        config = cri.ContainerConfig(envs=[cri.KeyValue(key="A", value=b"3"), cri.KeyValue(key="C", value=b"x=y")])
        assert spec.environment(config, spec.ImageConfig(env=("A=1", "B=2")), {"H": "h"}) == ["H=h", "A=3", "B=2", "C=x=y"]

    def test_capabilities(self) -> None:
        def names(add: list[str], drop: list[str]) -> set[str]:
            context = cri.LinuxContainerSecurityContext(capabilities=cri.Capability(add_capabilities=add, drop_capabilities=drop))
            sets = spec.capability_sets(context)
            assert sets is not None
            return {name for name, bit in capabilities.NUMBER.items() if sets["bounding"] >> bit & 1}

        assert names([], []) == set(spec.DEFAULT_CAPABILITIES)
        assert names(["CAP_SYS_TIME"], ["kill"]) == set(spec.DEFAULT_CAPABILITIES) - {"KILL"} | {"SYS_TIME"}
        assert names(["NET_ADMIN"], ["ALL"]) == {"NET_ADMIN"}
        assert names(["ALL"], ["MKNOD"]) == set(capabilities.NAMES) - {"MKNOD"}
        assert spec.capability_sets(cri.LinuxContainerSecurityContext(privileged=True)) is None

    def test_mounts_are_in_order_and_inside(self) -> None:
        config = cri.ContainerConfig(
            mounts=[cri.Mount(container_path=path, host_path="/x") for path in ("/a/b/c", "/a", "/", "/a/b/")]
        )
        assert [entry["target"] for entry in spec.mounts(config)] == ["/", "/a", "/a/b", "/a/b/c"]
        for path in ("relative", "/a/../../etc"):
            with pytest.raises(InvalidArgument):
                spec.mounts(cri.ContainerConfig(mounts=[cri.Mount(container_path=path, host_path="/x")]))

    def test_paths_are_rewritten_for_processes(self) -> None:
        table = {"/etc/app": "/n/1", "/etc/app/inner": "/n/2", "/data": "/n/3"}
        words = ["/etc/app/file", "--config=/etc/app/inner/x", "/etc/apple", "DIR=/data", "echo /data", "/data"]
        assert spec.rewrite_paths(words, table) == [
            "/n/1/file",
            "--config=/n/2/x",
            "/etc/apple",
            "DIR=/n/3",
            "echo /data",
            "/n/3",
        ]


class TestReference:
    @pytest.mark.parametrize(
        ("text", "full"),
        [
            ("busybox", "docker.io/library/busybox:latest"),
            ("me/app:1", "docker.io/me/app:1"),
            ("index.docker.io/library/x", "docker.io/library/x:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("h:5000/a/b:t", "h:5000/a/b:t"),
            ("h.org/a@sha256:" + "0" * 64, "h.org/a@sha256:" + "0" * 64),
        ],
    )
    def test_names_are_completed(self, text: str, full: str) -> None:
        assert str(reference.parse(text)) == full

    @pytest.mark.parametrize("text", ["", "UPPER", "a//b", "a:", "a@sha256:short", "a b", "../x"])
    def test_what_is_no_name(self, text: str) -> None:
        with pytest.raises(InvalidArgument):
            reference.parse(text)


class TestAddresses:
    def test_all_are_given_once_and_a_freed_one_rests(self) -> None:
        pool = network.AddressRange("10.0.0.0/29")
        taken = [pool.allocate([])]
        for _ in range(4):
            taken.append(pool.allocate(taken))
        assert taken == [f"10.0.0.{number}" for number in range(2, 7)]
        with pytest.raises(FailedPrecondition, match="no free pod address"):
            pool.allocate(taken)
        taken.remove("10.0.0.4")
        assert pool.allocate(taken) == "10.0.0.4"
        pool = network.AddressRange("10.0.0.0/29")
        assert [pool.allocate([]) for _ in range(3)] == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]

    def test_a_range_too_small(self) -> None:
        with pytest.raises(ValueError, match="too small"):
            network.AddressRange("10.0.0.0/31")


class TestSignals:
    @pytest.mark.parametrize(
        ("text", "number"), [("SIGTERM", 15), ("quit", 3), ("9", 9), ("SIGRTMIN+3", 37), ("", 15), ("NONSENSE", 15)]
    )
    def test_from_images(self, text: str, number: int) -> None:
        assert signals.from_image(text) == number

    def test_there_and_back(self) -> None:
        for value in cri.Signal.values():
            if value:
                assert signals.from_cri(signals.to_cri(signals.from_cri(value))) == signals.from_cri(value)


class TestLayers:
    def test_flattened_as_overlayfs_would_show_them(self, tmp_path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("whiteouts are device nodes, which root makes")
        lower = archives.layer(("a/", None), ("a/x", b"1"), ("a/y", b"2"), ("b/", None), ("b/z", b"3"))
        upper = archives.layer(("a/.wh.x", b""), ("a/y", b"new"), ("b/", None), ("b/.wh..wh..opq", b""), archives.link("c", "a"))
        for number, data in enumerate((lower, upper)):
            layers.unpack(
                io.BytesIO(data),
                str(tmp_path / str(number)),
                [str(tmp_path / "0")] if number else [],
                archives.digest(data),
                userxattr=False,
            )
        (tmp_path / "out").mkdir()
        layers.flatten([str(tmp_path / "0"), str(tmp_path / "1")], str(tmp_path / "out"), userxattr=False)
        found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
        assert found == ["a", "a/y", "b", "c"]
        assert (tmp_path / "out/a/y").read_text() == "new"

    def test_content_that_lies_about_itself(self, tmp_path: Path) -> None:
        data = archives.layer(("a", b"1"))
        with pytest.raises(CriError, match="other content"):
            layers.unpack(io.BytesIO(data), str(tmp_path / "x"), [], "sha256:" + "0" * 64, userxattr=False)


class TestHeld:
    def test_exit_codes(self) -> None:
        assert exit_code(0) == 0
        assert exit_code(7 << 8) == 7
        assert exit_code(9) == 137

    def test_a_record_of_a_dead_process_is_not_taken_for_a_live_one(self, tmp_path: Path) -> None:
        record = {"pid": os.getpid(), "start": process_start(os.getpid()), "began": 1}
        (tmp_path / "pid").write_text(json.dumps(record))
        held = Held.from_disk("x", str(tmp_path))
        assert held is not None
        assert held.is_same_process()
        (tmp_path / "pid").write_text(json.dumps({**record, "start": "1"}))
        held = Held.from_disk("x", str(tmp_path))
        assert held is not None
        assert not held.is_same_process()
        ended = held.finish(selectors.DefaultSelector(), 255, reason="Unknown")
        assert json.loads((tmp_path / "exit").read_text()) == ended
        assert Held.from_disk("x", str(tmp_path)) is None


def test_torn_records_are_cleared_away(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.save(ContainerRecord(id="whole", sandbox_id="s", config="", image_id="", image_ref="", created_at=1))
    for name, text in (("torn", '{"id": "to'), ("other", '{"id": "other"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(text)
    (tmp_path / "none").mkdir()
    assert [record.id for record in folder.load(ContainerRecord)] == ["whole"]
    assert os.listdir(tmp_path) == ["whole"]


def test_link_names_fit() -> None:
    assert len(network.link_name("x" * 64)) <= 15
    assert network.pod_mac("10.244.1.2") == "0a:58:0a:f4:01:02"


class TestSeccomp:
    """The filter, run by a machine of our own: five instructions are all that it uses."""

    ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026

    @staticmethod
    def judge(program: bytes, number: int, argument: int = 0, arch: int = 0xC000003E) -> int:
        data = struct.pack("=iIQ6Q", number, arch, 0, argument, 0, 0, 0, 0, 0)
        instructions = list(struct.iter_unpack("=HBBI", program))
        accumulator = position = 0
        while True:
            code, then, otherwise, value = instructions[position]
            position += 1
            if code == 0x06:
                return int(value)
            if code == 0x20:
                accumulator = struct.unpack_from("=I", data, value)[0]
                continue
            true = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            position += then if true else otherwise

    def test_what_the_default_profile_decides(self) -> None:
        plain = seccomp.default_program(capabilities.mask(spec.DEFAULT_CAPABILITIES), "x86_64")
        admin = seccomp.default_program(capabilities.mask(["SYS_ADMIN"]), "x86_64")
        for number, argument, without, with_it in [
            (0, 0, self.ALLOW, self.ALLOW),  # read
            (59, 0, self.ALLOW, self.ALLOW),  # execve
            (165, 0, self.EPERM, self.ALLOW),  # mount
            (272, 0, self.EPERM, self.ALLOW),  # unshare
            (250, 0, self.EPERM, self.EPERM),  # keyctl
            (425, 0, self.EPERM, self.EPERM),  # io_uring_setup
            (161, 0, self.ALLOW, self.EPERM),  # chroot, with SYS_CHROOT only
            (435, 0, self.ENOSYS, self.ALLOW),  # clone3
            (56, 0x11, self.ALLOW, self.ALLOW),  # clone: fork
            (56, 0x10000000, self.EPERM, self.ALLOW),  # clone: a user namespace
            (41, 2, self.ALLOW, self.ALLOW),  # socket: IPv4
            (41, 40, self.EPERM, self.EPERM),  # socket: vsock
            (135, 0xFFFFFFFF, self.ALLOW, self.ALLOW),  # personality: ask
            (135, 0x0400000, self.EPERM, self.EPERM),  # personality: read implies exec
            (9999, 0, self.ENOSYS, self.ENOSYS),
            (0x40000000, 0, self.ENOSYS, self.ENOSYS),  # x32
        ]:
            assert self.judge(plain, number, argument) == without, number
            assert self.judge(admin, number, argument) == with_it, number
        assert self.judge(plain, 0, arch=0x40000003) == self.ENOSYS
        arm = seccomp.default_program(0, "aarch64")
        assert self.judge(arm, 40, arch=0xC00000B7) == self.EPERM
        assert self.judge(arm, 63, arch=0xC00000B7) == self.ALLOW
        assert seccomp.default_program(0, "riscv64") == b""


class TestCgroups:
    RESOURCES = cri.LinuxContainerResources(
        cpu_shares=1024, cpu_quota=50_000, cpu_period=100_000, memory_limit_in_bytes=1 << 26, cpuset_cpus="0"
    )

    def test_v2_speaks_of_the_same_limits_in_other_words(self, tmp_path: Path) -> None:
        backend = cgroups.V2(str(tmp_path))
        backend.create("/a/b", None)
        names = ("cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "pids.max", "cpuset.cpus", "memory.high")
        for name in names:
            (tmp_path / "a/b" / name).write_text("")
        self.RESOURCES.unified["memory.high"] = "1000"
        backend.update("/a/b", self.RESOURCES, pids=7)
        found = {name: (tmp_path / "a/b" / name).read_text() for name in names}
        assert found == {
            "cpu.weight": "39",
            "cpu.max": "50000 100000",
            "memory.max": str(1 << 26),
            "memory.swap.max": "0",
            "pids.max": "7",
            "cpuset.cpus": "0",
            "memory.high": "1000",
        }
        assert backend.joins("/a/b") == [f"{tmp_path}/a/b/cgroup.procs"]
        (tmp_path / "a/b/memory.current").write_text("5000\n")
        (tmp_path / "a/b/memory.stat").write_text("anon 3000\ninactive_file 1500\npgfault 4\n")
        (tmp_path / "a/b/cpu.stat").write_text("usage_usec 12\n")
        usage = backend.usage("/a/b")
        assert (usage.cpu, usage.memory, usage.working_set, usage.rss, usage.page_faults) == (12_000, 5000, 3500, 3000, 4)

    def test_v1_writes_to_each_hierarchy(self, tmp_path: Path) -> None:
        mounts = {name: str(tmp_path / name) for name in ("memory", "cpu", "cpuacct", "pids", "blkio")}
        backend = cgroups.V1(mounts)
        assert not backend.exists("/a")
        backend.create("/a", self.RESOURCES, pids=7)
        assert backend.exists("/a")
        assert (tmp_path / "blkio/a").is_dir()
        assert (tmp_path / "cpu/a/cpu.shares").read_text() == "1024"
        assert (tmp_path / "cpu/a/cpu.cfs_quota_us").read_text() == "50000"
        assert (tmp_path / "pids/a/pids.max").read_text() == "7"
        assert len(backend.joins("/a")) == 5

    @pytest.mark.parametrize(
        ("table", "name"),
        [
            ("1 2 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "v2"),
            ("1 2 0:1 / {}/memory rw - cgroup cgroup rw,memory\n3 2 0:2 / {}/unified rw - cgroup2 cgroup2 rw", "v1"),
            ("1 2 0:1 / / rw - ext4 /dev/x rw", "none"),
        ],
    )
    def test_the_backend_is_what_is_mounted(self, tmp_path: Path, table: str, name: str) -> None:
        (tmp_path / "mountinfo").write_text(table.replace("{}", str(tmp_path)).replace("/sys/fs/cgroup ", f"{tmp_path} ") + "\n")
        backend, problem = cgroups.detect("/root", str(tmp_path / "mountinfo"))
        assert backend.name == name
        assert bool(problem) == (name == "none")


def test_cni_configurations_and_results() -> None:
    one = cni.parse({"cniVersion": "0.4.0", "name": "n", "type": "ptp", "capabilities": {"dns": True}})
    assert one.has_check
    assert not one.has_gc
    assert cni.parse({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "a"}], "disableCheck": "true"}).has_gc
    told = cni.config_for(one, one.plugins[0], {"dns": {"servers": ["1.2.3.4"]}, "bandwidth": {}}, {"ips": []})
    assert told == {
        "cniVersion": "0.4.0",
        "name": "n",
        "type": "ptp",
        "runtimeConfig": {"dns": {"servers": ["1.2.3.4"]}},
        "prevResult": {"ips": []},
    }
    for wrong in ({"name": "n", "plugins": []}, {"name": "n", "type": "../sh"}, {"type": "ptp"}, []):
        with pytest.raises(ValueError, match=r"."):
            cni.parse(wrong)
    links = [{"name": "veth1"}, {"name": "eth0", "sandbox": "/x"}]
    result = {
        "interfaces": links,
        "ips": [{"address": "10.0.0.1/24", "interface": 0}, {"address": "10.0.0.2/24", "interface": 1}],
    }
    assert cni.addresses(result, "eth0") == ["10.0.0.2"]
    assert cni.addresses({"ip4": {"ip": "10.0.0.3/8"}}, "eth0") == ["10.0.0.3"]


def test_the_more_exact_host_port_comes_first() -> None:
    ports = (attachment.HostPort("tcp", "", 80, 8080), attachment.HostPort("tcp", "10.0.0.9", 80, 8081))
    lines = [line.strip() for line in hostports.rules({"a": (["10.1.0.2"], ports)}).splitlines() if " dnat to " in line]
    assert lines == ["ip daddr 10.0.0.9 tcp dport 80 dnat to 10.1.0.2:8081", "tcp dport 80 dnat to 10.1.0.2:8080"]


def test_where_images_come_from(tmp_path: Path) -> None:
    config = endpoints.Registries(("reg.example",), ("docker.io=https://m.example",), tmp_path)
    assert [one.base for one in endpoints.endpoints("docker.io", config)] == [
        "https://m.example/v2",
        "https://registry-1.docker.io/v2",
    ]
    assert [one.base for one in endpoints.endpoints("reg.example:5000", config)] == [
        "https://reg.example:5000/v2",
        "http://reg.example:5000/v2",
    ]
    assert [one.base for one in endpoints.endpoints("127.0.0.1:5000", config)] == ["http://127.0.0.1:5000/v2"]
    (tmp_path / "_default").mkdir()
    (tmp_path / "_default" / "hosts.toml").write_text(
        '[host."https://a.example/prefix"]\noverride_path = true\ncapabilities = ["pull"]\n[host."https://a.example/prefix".header]\nx = ["1", "2"]\n'
    )
    mirror, own = endpoints.endpoints("other.example", config)
    assert (mirror.base, mirror.capabilities, mirror.headers) == ("https://a.example/prefix", frozenset({"pull"}), {"x": "1, 2"})
    assert own.base == "https://other.example/v2"


def test_credentials_are_shown_to_whom_they_are_for() -> None:
    own, mirror = (
        endpoints.Endpoint("https://reg.example/v2"),
        endpoints.Endpoint("https://m.example/v2", mirror_of="reg.example"),
    )
    hub = endpoints.Endpoint("https://registry-1.docker.io/v2")

    def shown(endpoint: endpoints.Endpoint, registry: str, address: str) -> bool:
        auth = cri.AuthConfig(registry_token="t", server_address=address)
        return bool(credentials.Credentials(endpoint, registry, "a/b", auth).header)

    for address in ("", "reg.example", "https://reg.example/v1/", "*.example"):
        assert shown(own, "reg.example", address)
    assert not shown(own, "reg.example", "other.example")
    assert [shown(mirror, "reg.example", address) for address in ("", "reg.example", "m.example")] == [False, False, True]
    assert shown(hub, "docker.io", "https://index.docker.io/v1/")
    assert not shown(hub, "docker.io", "*.example")
