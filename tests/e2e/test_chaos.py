"""`kill -9` of the control plane and agent at random moments: nothing is stuck, lost or counted wrong."""
import os
import pathlib
import random
import signal
import subprocess
import threading
import time

import keystoneauth1.exceptions
import openstack.exceptions
from conftest import NACRE, PORT, alive, eventually

OPERATIONS = int(os.environ.get("NACRE_CHAOS_OPERATIONS", "100"))
SEED = int(os.environ.get("NACRE_CHAOS_SEED", str(random.randrange(10**6))))
SERVERS_AT_ONCE = 3
SETTLE_SECONDS_MAX = 180
AWAY = (keystoneauth1.exceptions.ConnectionError, keystoneauth1.exceptions.ServiceUnavailable, openstack.exceptions.HttpException)


class Killer(threading.Thread):
    """Kills the process and starts it again, until told to stop."""

    def __init__(self, nacre, seed):
        super().__init__(daemon=True)
        self.nacre, self.random, self.enough, self.kills, self.error = nacre, random.Random(seed), threading.Event(), 0, None

    def run(self):
        try:
            while not self.enough.wait(self.random.uniform(0.3, 4)):
                self.nacre.kill()
                self.kills += 1
                self.nacre.up()
        except BaseException as error:  # shown by the test, which would wait for ever otherwise
            self.error = error


def persist(killer, call):
    """Repeats a call while the API is away. An answer of the cloud's own, also a refusal, ends it."""
    end = time.monotonic() + 60
    while True:
        if killer.error:
            raise killer.error
        try:
            return call()
        except (openstack.exceptions.NotFoundException, openstack.exceptions.ConflictException):
            return None
        except AWAY as error:
            status = getattr(error, "status_code", None)
            if (status is not None and status < 500) or time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_kill_at_random_moments(cloud, tenant):
    print(f"seed {SEED}")
    choose, compute = random.Random(SEED), tenant.api.compute
    network, group = tenant.network(), tenant.group()
    steady = tenant.server(network, [group], name="steady")
    address = tenant.floating_ip(steady)
    tenant.reachable(address)
    boot_id = tenant.ssh(address, "cat /proc/sys/kernel/random/boot_id").stdout

    killer = Killer(cloud.nacre, SEED)
    killer.start()
    try:
        for number in range(OPERATIONS):
            operate(killer, tenant, network, group, choose, number)
    finally:
        killer.enough.set()
        killer.join()
    assert killer.error is None, killer.error
    assert killer.kills > 0

    def settled():
        return all(s.task_state is None and s.status in ("ACTIVE", "SHUTOFF", "ERROR") for s in compute.servers())
    eventually("every server is in a final state", SETTLE_SECONDS_MAX, settled)
    broken = [(s.name, s.fault) for s in compute.servers(status="ERROR")]
    assert broken == [], "a kill is no reason for a server to fail"
    assert tenant.ssh(address, "cat /proc/sys/kernel/random/boot_id").stdout == boot_id, "the running guest was left alone"
    used = compute.get("/limits").json()["limits"]["absolute"]
    left = list(compute.servers())
    assert used["totalInstancesUsed"] == len(left)
    assert used["totalCoresUsed"] == len(left)
    assert used["totalRAMUsed"] == 128 * len(left)
    assert cloud.nacre.doctor() == []
    print(f"{OPERATIONS} operations, {killer.kills} kills, {len(left)} servers left")


def operate(killer, tenant, network, group, choose, number):
    compute = tenant.api.compute
    others = [s for s in persist(killer, lambda: list(compute.servers())) or [] if s.name != "steady"]
    what = choose.choice(["create", "create", "reboot", "delete"]) if others else "create"
    if what == "create" and len(others) >= SERVERS_AT_ONCE:
        what = "delete"
    if what == "create":
        name = f"chaos-{number}"

        def create():
            # The answer to an earlier attempt may have been lost: look before creating again.
            return next(iter(compute.servers(name=name)), None) or tenant.server(network, [group], wait=False, name=name)
        persist(killer, create)
    elif what == "reboot":
        server, kind = choose.choice(others), choose.choice(["SOFT", "HARD"])
        persist(killer, lambda: compute.reboot_server(server, kind))
    else:
        server = choose.choice(others)
        persist(killer, lambda: compute.delete_server(server))
    time.sleep(choose.uniform(0, 0.6))


def test_delete_while_building_with_the_agent_stopped(cloud, tenant):
    """Twice: the server goes when the agent is back. Control plane and agent run as two processes meanwhile."""
    network, group = tenant.network(router=False), tenant.group()
    nacre, compute = cloud.nacre, tenant.api.compute
    pid = nacre.pid()
    os.kill(pid, signal.SIGTERM)
    eventually("nacre up ends", 30, lambda: not alive(pid))
    log = open(nacre.state / "log/split.log", "a")

    def start(role):
        process = subprocess.Popen([NACRE, "--state-dir", nacre.state, role, "--port", PORT], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return process

    server_process, agent_process = start("server"), start("agent")
    try:
        eventually("the agent is connected", 30, lambda: nacre.run("admin", "hosts", check=False).stdout.count(" up "))
        doomed = tenant.server(network, [group], wait=False, name="doomed")
        eventually("it is on its host", 30, lambda: compute.get_server(doomed).task_state not in ("scheduling", None))
        agent_process.send_signal(signal.SIGKILL)
        agent_process.wait(10)
        compute.delete_server(doomed)
        compute.delete_server(doomed)
        assert compute.get_server(doomed).task_state == "deleting", "accepted, and waiting for the host"
        agent_process = start("agent")
        compute.wait_for_delete(doomed, wait=60, interval=0.1)
        leftovers = [p for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and doomed.id in cmdline(p)]
        assert leftovers == [], "no process of it is left"
    finally:
        for process in (agent_process, server_process):
            process.terminate()
            process.wait(30)
        log.close()
        nacre.up()
    assert nacre.doctor() == []


def cmdline(process):
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
