"""What `nacre` says when something is missing, and that it comes and goes without leaving anything behind."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

import pytest
from conftest import NACRE, PORT, alive, eventually


@pytest.fixture
def state():
    """A state directory of its own; what is mounted on it goes with it."""
    with tempfile.TemporaryDirectory(prefix="nacre-cl-", dir=os.environ.get("NACRE_E2E_DIR")) as folder:
        os.chmod(folder, 0o777)
        yield pathlib.Path(folder) / "state"


def up(state, *options, **more):
    return subprocess.run([NACRE, "--state-dir", state, "up", "--port", "8897", *options], capture_output=True, text=True,
                          timeout=60, **more)


def refused(done, *words):
    """One sentence that says what to do."""
    assert done.returncode == 1 and done.stdout == "", done
    assert done.stderr.startswith("nacre: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_a_taken_port(state):
    with socket.create_server(("127.0.0.1", 8897)):
        refused(up(state), "8897", "--port")
    assert processes(state) == []


def test_not_root(state):
    refused(up(state, user=65534, group=65534, extra_groups=[]), "root", "sudo")
    assert not state.exists()


def test_too_little_disk(state):
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", state], check=True)
    try:
        refused(up(state), "MiB", str(state), "--state-dir")
    finally:
        subprocess.run(["umount", state], check=True)


def test_missing_packages(state):
    refused(up(state, env={"PATH": "/nonexistent"}), "qemu-system-x86_64", "make setup")


def test_options_that_can_not_be(state):
    refused(up(state, "--listen", "0.0.0.0"), "--tls-cert")
    refused(up(state, "--external-cidr", "172.24.4.0/30"), "--external-cidr")


def test_commands_without_a_cloud(state):
    def run(*args):
        return subprocess.run([NACRE, "--state-dir", state, *args], capture_output=True, text=True, timeout=30)
    assert "no cloud" in run("down").stdout
    for command in (["doctor"], ["admin", "hosts"]):
        refused(run(*command), "nacre up", str(state))
    refused(run("clouds"), "nacre up")
    assert not state.exists(), "asking makes nothing"


def test_up_again_says_what_is_there(cloud):
    pid = cloud.nacre.pid()
    assert "running already" in cloud.nacre.up().stdout
    assert cloud.nacre.pid() == pid
    other = subprocess.run([NACRE, "--state-dir", cloud.nacre.state, "up", "--foreground", "--port", "8896"],
                           capture_output=True, text=True, timeout=60)
    assert other.returncode == 1 and "another nacre already runs" in other.stdout + other.stderr


@pytest.mark.parametrize("seconds", [0.02, 0.2, 0.6, 1.2, 2.5])
def test_interrupted_up_is_cleaned_by_down(state, seconds):
    with namespace() as ns:
        command = ["ip", "netns", "exec", ns, NACRE, "--state-dir", state]
        # A session of its own gets SIGINT as a terminal's foreground group does.
        starting = subprocess.Popen([*command, "up", "--port", "8897"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                    start_new_session=True)
        time.sleep(seconds)
        os.killpg(starting.pid, signal.SIGINT)
        starting.wait(60)
        down = subprocess.run([*command, "down"], capture_output=True, text=True, timeout=90)
        assert down.returncode == 0, down.stderr
        assert_nothing_is_left(state, ns)
        if seconds == 1.2:
            for _ in range(2):
                assert subprocess.run([*command, "up", "--port", "8897"], capture_output=True, timeout=90).returncode == 0
            assert subprocess.run([*command, "down", "--purge"], capture_output=True, timeout=90).returncode == 0
            assert_nothing_is_left(state, ns)
            assert not state.exists()


def test_guests_come_back_after_down_and_up(cloud, tenant):
    """Those that should run do, those that are shut down stay so; meanwhile nothing is left of the cloud but its files."""
    network, group = tenant.network(), tenant.group()
    running, off = (tenant.server(network, [group], name=f"{tenant.name}-{n}") for n in ("on", "off"))
    address = tenant.floating_ip(running)
    tenant.reachable(address)
    tenant.ssh(address, "echo kept > kept; sync")
    tenant.api.compute.stop_server(off)
    eventually("it is off", 90, lambda: tenant.api.compute.get_server(off).status == "SHUTOFF")

    cloud.nacre.run("down")
    assert_nothing_is_left(cloud.nacre.state, networks=[network.id])
    cloud.nacre.up()
    tenant.active(running)
    tenant.reachable(address)
    assert tenant.ssh(address, "cat kept").stdout.strip() == "kept"
    assert tenant.api.compute.get_server(off).status == "SHUTOFF"
    assert cloud.nacre.doctor() == []


def test_guests_do_not_notice_a_new_nacre(cloud, tenant):
    network, group = tenant.network(), tenant.group()
    server = tenant.server(network, [group])
    address = tenant.floating_ip(server)
    tenant.reachable(address)
    boot = tenant.ssh(address, "cat /proc/sys/kernel/random/boot_id").stdout
    os.kill(pid := cloud.nacre.pid(), signal.SIGTERM)
    eventually("nacre ends", 30, lambda: not alive(pid))
    with socket.create_connection((address, 22), timeout=10) as connection:
        assert connection.recv(4).startswith(b"SSH"), "traffic flows without it"
    cloud.nacre.up()
    cloud.nacre.kill()
    cloud.nacre.up()
    assert tenant.ssh(address, "cat /proc/sys/kernel/random/boot_id").stdout == boot
    assert tenant.api.compute.get_server(server).status == "ACTIVE"


class namespace:
    """A network namespace below the run's own."""

    def __enter__(self):
        self.name = f"nacre-test-{os.getpid()}-{time.monotonic_ns() % 10**9}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        return self.name

    def __exit__(self, *_):
        subprocess.run(["ip", "netns", "del", self.name], check=True)


def assert_nothing_is_left(state, ns=None, networks=()):
    assert processes(state) == []
    where = ["-n", ns] if ns else []
    links = json.loads(subprocess.run(["ip", "-j", *where, "link"], capture_output=True, text=True, check=True).stdout)
    assert [link["ifname"] for link in links if link["ifname"] != "lo"] == []
    assert str(state) not in pathlib.Path("/proc/mounts").read_text()
    namespaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert not any(network in namespaces for network in networks)


def processes(state):
    """The command lines that name the state directory, but for this test's own."""
    found = []
    for process in pathlib.Path("/proc").iterdir():
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") if process.name.isdigit() else ""
        except OSError:
            continue
        if str(state) in line and int(process.name) != os.getpid():
            found.append(line)
    return found
