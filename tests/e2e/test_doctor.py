"""The doctor finds each thing that is broken on purpose, and nothing else; `--fix`, or undoing it, makes the cloud whole."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import uuid

import pytest
from conftest import ROOT, alive, eventually

OVS = pathlib.Path(os.environ.get("NACRE_OVS_DIR", ROOT / "build/ovs")) / "bin"
STRANGER = "deadbeef-0000-4000-8000-00000000beef"


@pytest.fixture(scope="module")
def lab(cloud):
    """One server with everything a server has, for all tests of this file."""
    with cloud.tenant("doctor") as tenant:
        network = tenant.network()
        tenant.box = tenant.server(network, [tenant.group()])
        tenant.floating_ip(tenant.box)
        assert cloud.nacre.doctor() == []
        yield tenant


def findings(nacre, kind, text):
    return [f for f in nacre.doctor() if f["kind"] == kind and text in f["id"] + f["problem"]]


def found_and_fixed(nacre, kind, text):
    """The thing is found and nothing else is; once fixed, it is found no more."""
    all_found = nacre.doctor()
    assert [f for f in all_found if f["kind"] == kind and text in f["id"] + f["problem"]], all_found
    assert len(all_found) == 1, "nothing else is wrong"
    assert nacre.run("doctor", check=False).returncode == 1
    nacre.run("doctor", "--fix", check=False)
    eventually("the cloud is whole again", 30, lambda: nacre.doctor() == [])


def northbound(nacre, *args):
    done = subprocess.run([OVS / "ovn-nbctl", f"--db=unix:{nacre.state}/ovn/run/ovnnb_db.sock", *args], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def switch(nacre, *args):
    done = subprocess.run([OVS / "ovs-vsctl", f"--db=unix:{nacre.state}/ovn/run/db.sock", *args], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def guest_pid(cloud, lab):
    return json.loads((cloud.nacre.state / "guests" / lab.box.id / "record.json").read_text())["pid"]


@contextlib.contextmanager
def database(nacre):
    """A transaction beside the running control plane."""
    connection = sqlite3.connect(nacre.state / "nacre.db", timeout=30)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def test_a_guests_folder_that_nobody_made(cloud, lab):
    folder = cloud.nacre.state / "guests" / STRANGER
    folder.mkdir()
    found_and_fixed(cloud.nacre, "process", STRANGER)
    assert not folder.exists()


def test_a_guests_process_that_nobody_started(cloud, lab):
    guests = cloud.nacre.state / "guests"
    # Whatever program it is: it says that it is a guest of this cloud.
    process = subprocess.Popen(["python3", "-c", "import time; time.sleep(600)", "-name", f"guest={STRANGER},debug-threads=on",
                                "-qmp", f"unix:{guests}/{STRANGER}/run/qmp.sock"])
    try:
        found_and_fixed(cloud.nacre, "process", STRANGER)
        assert process.wait(10) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def test_a_ledger_that_lost_a_running_guest(cloud, lab):
    """The control plane tells the agent again what it should have; the guest is not touched."""
    nacre, before = cloud.nacre, guest_pid(cloud, lab)
    nacre.kill()
    (nacre.state / "agent/ledger" / f"{lab.box.id}.json").unlink()
    nacre.up()
    eventually("the cloud is whole again", 30, lambda: nacre.doctor() == [])
    assert guest_pid(cloud, lab) == before and alive(before)


@pytest.mark.parametrize("in_switch", [False, True])
def test_a_tap_of_no_port(cloud, lab, in_switch):
    tap = "tap" + STRANGER.replace("-", "")[:11]
    subprocess.run(["ip", "tuntap", "add", tap, "mode", "tap"], check=True)
    if in_switch:
        switch(cloud.nacre, "add-port", "br-int", tap)
    found_and_fixed(cloud.nacre, "device", tap)
    assert subprocess.run(["ip", "link", "show", tap], capture_output=True).returncode != 0


def test_a_plugged_port_of_no_server(cloud, lab):
    tap = "tap" + STRANGER.replace("-", "")[:11]
    subprocess.run(["ip", "tuntap", "add", tap, "mode", "tap"], check=True)
    switch(cloud.nacre, "add-port", "br-int", tap, "--", "set", "interface", tap, f"external_ids:iface-id={STRANGER}",
           "external_ids:nacre-kind=server")
    found_and_fixed(cloud.nacre, "tap", tap)
    assert subprocess.run(["ip", "link", "show", tap], capture_output=True).returncode != 0


def test_a_metadata_namespace_of_no_network(cloud, lab):
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()
    network = lab.port(lab.box).network_id
    name = next(name for name in listed if network in name).replace(network, STRANGER)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        found_and_fixed(cloud.nacre, "namespace", STRANGER)
        assert name not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.parametrize("create", [["ls-add", "stranger"], ["lr-add", "stranger"]])
def test_a_row_of_ovn_that_has_no_row_here(cloud, lab, create):
    table, kind = {"ls-add": ("Logical_Switch", "network"), "lr-add": ("Logical_Router", "router")}[create[0]]
    northbound(cloud.nacre, *create, "--", "set", table, "stranger", f"external_ids:nacre-id={STRANGER}",
               f"external_ids:nacre-kind={kind}")
    found_and_fixed(cloud.nacre, "ovn", STRANGER)
    assert northbound(cloud.nacre, "--bare", "--columns=name", "find", table, "name=stranger") == ""


def test_a_row_that_is_gone_from_ovn(cloud, lab):
    port = lab.port(lab.box)
    northbound(cloud.nacre, "lsp-del", port.id)
    found_and_fixed(cloud.nacre, "ovn", port.id)
    assert northbound(cloud.nacre, "--bare", "--columns=name", "find", "Logical_Switch_Port", f"name={port.id}") == port.id
    eventually("the port is up again", 20, lambda: lab.port(lab.box).status == "ACTIVE")


@pytest.mark.parametrize("place", ["disks", "disks/base", "disks/servers", "disks/servers/" + STRANGER])
def test_a_file_that_is_no_disk(cloud, lab, place):
    folder = cloud.nacre.state / place
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    file = folder / f"stray-{uuid.uuid4().hex[:6]}.qcow2"
    file.write_bytes(b"not an image")
    found_and_fixed(cloud.nacre, "file", STRANGER if made else file.name)
    assert not file.exists() and folder.exists() != made


@pytest.mark.parametrize("name", ["stray", f"{STRANGER}/1"])
def test_a_file_that_is_no_image(cloud, lab, name):
    file = cloud.nacre.state / "images" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"x")
    found_and_fixed(cloud.nacre, "image file", name)
    assert not file.exists()


def test_an_image_without_its_file(cloud, lab):
    """Nothing can repair that; putting the file back does."""
    folder = cloud.nacre.state / "images" / cloud.image.id
    aside = cloud.folder / "aside"
    shutil.move(folder, aside)
    try:
        assert findings(cloud.nacre, "image", cloud.image.id)
        cloud.nacre.run("doctor", "--fix", check=False)
        assert findings(cloud.nacre, "image", cloud.image.id), "what is lost stays a finding"
    finally:
        shutil.move(aside, folder)
    assert cloud.nacre.doctor() == []


@pytest.mark.parametrize("resource", ["instances", "cores", "ram", "port", "security_group_rule"])
def test_a_quota_that_counts_wrong(cloud, lab, resource):
    with database(cloud.nacre) as connection:
        changed = connection.execute("update quota_usages set used = used + 1 where project_id = ? and resource = ?",
                                     (lab.project.id, resource))
        assert changed.rowcount == 1
    found_and_fixed(cloud.nacre, "quota", resource)


def test_an_allocation_of_no_server(cloud, lab):
    with database(cloud.nacre) as connection:
        connection.execute("insert into allocations (server_id, host_id, vcpus, memory_mib, disk_gib, created_at) "
                           "select ?, host_id, 1, 128, 1, created_at from allocations limit 1", (STRANGER,))
    found_and_fixed(cloud.nacre, "allocation", STRANGER)


def test_a_server_without_an_allocation(cloud, lab):
    columns = "server_id, host_id, vcpus, memory_mib, disk_gib"
    with database(cloud.nacre) as connection:
        before = connection.execute(f"select {columns} from allocations where server_id = ?", (lab.box.id,)).fetchall()
        connection.execute("delete from allocations where server_id = ?", (lab.box.id,))
    found_and_fixed(cloud.nacre, "allocation", lab.box.id)
    with database(cloud.nacre) as connection:
        assert connection.execute(f"select {columns} from allocations where server_id = ?", (lab.box.id,)).fetchall() == before


def test_an_assignment_of_nobody(cloud, lab):
    with database(cloud.nacre) as connection:
        connection.execute("insert into role_assignments (actor_kind, actor_id, target_kind, target_id, role_id, inherited) "
                           "select actor_kind, ?, target_kind, target_id, role_id, inherited from role_assignments "
                           "where actor_kind = 'user' limit 1", (STRANGER,))
    found_and_fixed(cloud.nacre, "role assignment", STRANGER)


def test_a_row_without_a_flow(cloud, lab):
    port = lab.port(lab.box)
    with database(cloud.nacre) as connection:
        assert connection.execute("delete from flows where id = ?", (port.id,)).rowcount == 1
    found_and_fixed(cloud.nacre, "flow", port.id)


def test_a_guest_that_died_unseen_is_no_riddle(cloud, lab):
    """What the agent itself repairs or reports is no finding: a killed guest is shut down, and starts again."""
    pid = guest_pid(cloud, lab)
    os.kill(pid, signal.SIGKILL)
    eventually("it is gone", 10, lambda: not alive(pid))
    eventually("it is known to be off", 20, lambda: lab.api.compute.get_server(lab.box).status == "SHUTOFF")
    eventually("nothing is odd", 20, lambda: cloud.nacre.doctor() == [])
    lab.api.compute.start_server(lab.box)
    lab.active(lab.box)
    assert cloud.nacre.doctor() == []
