"""The unmodified `openstack` command does every step of the demo and every operation of this release."""
import time

import pytest
from conftest import IMAGE, eventually


@pytest.fixture
def cli(tenant):
    return tenant.cli


def names(rows):
    return {row["Name"] for row in rows}


def test_the_demo_step_by_step(tenant, cli):
    image = cli("image", "create", "mine", "--disk-format", "qcow2", "--container-format", "bare", "--file", str(IMAGE), "--property", "os_distro=nacre")
    assert image["status"] == "active" or cli("image", "show", "mine")["status"] == "active"
    cli("image", "set", "mine", "--name", "renamed", "--property", "colour=red", as_json=False)
    assert cli("image", "show", "renamed")["properties"]["colour"] == "red"
    assert "renamed" in names(cli("image", "list"))
    saved = tenant.folder / "saved"
    cli("image", "save", "--file", str(saved), "renamed", as_json=False)
    assert saved.read_bytes() == IMAGE.read_bytes()

    public = tenant.key_file.with_suffix(".pub")
    cli("keypair", "create", "--public-key", str(public), "laptop")
    assert "laptop" in names(cli("keypair", "list"))
    cli("network", "create", "front")
    cli("subnet", "create", "front", "--network", "front", "--subnet-range", "10.44.0.0/24", "--dns-nameserver", "172.24.4.1")
    cli("router", "create", "edge", "--external-gateway", "public")
    cli("router", "add", "subnet", "edge", "front", as_json=False)
    cli("security", "group", "create", "web")
    cli("security", "group", "rule", "create", "web", "--protocol", "tcp", "--dst-port", "22")
    cli("security", "group", "rule", "create", "web", "--protocol", "icmp")
    assert len(cli("security", "group", "rule", "list", "web", "--ingress")) == 2
    user_data = tenant.folder / "user-data"
    user_data.write_text("#!/bin/sh\necho it ran > /run/proof\n")
    server = cli("server", "create", "box", "--image", "renamed", "--flavor", "m1.nano", "--network", "front", "--key-name", "laptop",
                 "--security-group", "web", "--user-data", str(user_data), "--property", "role=web", "--wait")
    assert server["status"] == "ACTIVE"
    address = cli("floating", "ip", "create", "public")["floating_ip_address"]
    cli("server", "add", "floating", "ip", "box", address, as_json=False)
    tenant.reachable(address)
    eventually("the user-data ran", 20, lambda: "it ran" in tenant.ssh(address, "cat /run/proof", check=False).stdout)
    assert "web" in tenant.ssh(address, "timeout 5 wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json").stdout
    assert tenant.ssh(address, "timeout 5 wget -q -O - http://169.254.169.254/latest/meta-data/local-ipv4").stdout.startswith("10.44.0.")

    console = cli("console", "log", "show", "box", as_json=False).stdout
    assert "kernel" in console
    assert "box" in names(cli("server", "list")) and "box" in names(cli("server", "list", "--long"))
    assert cli("server", "show", "box")["properties"] == {"role": "web"}
    cli("server", "stop", "box", as_json=False)
    eventually("stopped", 90, lambda: cli("server", "show", "box")["status"] == "SHUTOFF")
    cli("server", "start", "box", as_json=False)
    eventually("started", 60, lambda: cli("server", "show", "box")["status"] == "ACTIVE")
    tenant.reachable(address)
    cli("server", "reboot", "--hard", "--wait", "box", as_json=False)
    tenant.reachable(address)
    cli("server", "reboot", "--soft", "--wait", "box", as_json=False)
    tenant.reachable(address)
    actions = {row["Action"] for row in cli("server", "event", "list", "box")}
    assert {"create", "stop", "start", "reboot"} <= actions
    request = cli("server", "event", "list", "box")[-1]["Request ID"]
    assert cli("server", "event", "show", "box", request)["action"] == "create"
    cli("server", "set", "box", "--name", "crate", "--property", "tier=1", as_json=False)
    assert cli("server", "show", "crate")["properties"] == {"role": "web", "tier": "1"}
    cli("server", "remove", "floating", "ip", "crate", address, as_json=False)
    eventually("not reachable without it", 5, lambda: tenant.ssh(address, "true", check=False, timeout=20).returncode != 0)
    cli("floating", "ip", "delete", address, as_json=False)
    cli("server", "delete", "--wait", "crate", as_json=False)
    assert cli("server", "list") == []
    cli("router", "remove", "subnet", "edge", "front", as_json=False)
    cli("router", "delete", "edge", as_json=False)
    cli("network", "delete", "front", as_json=False)
    cli("security", "group", "delete", "web", as_json=False)
    cli("image", "delete", "renamed", as_json=False)


def test_servers_of_every_form(tenant, cli):
    network = tenant.network(router=False)
    port = cli("port", "create", "eth", "--network", tenant.name, "--fixed-ip", "ip-address=10.20.0.77")
    one = cli("server", "create", "by-port", "--image", "tiny", "--flavor", "42", "--port", port["id"], "--config-drive", "True", "--wait")
    assert one["addresses"][tenant.name] == ["10.20.0.77"]
    cli("server", "create", "auto", "--image", "tiny", "--flavor", "m1.micro", "--nic", "auto", "--wait")
    cli("server", "create", "none", "--image", "tiny", "--flavor", "42", "--nic", "none", "--wait")
    assert cli("server", "show", "none")["addresses"] == {}
    cli("server", "create", "many", "--image", "tiny", "--flavor", "42", "--network", network.id, "--min", "2", "--max", "2", "--wait")
    assert {"many-1", "many-2"} <= names(cli("server", "list"))
    eventually("the console of a guest with a config drive says so", 60,
               lambda: "configured by drive" in cli("console", "log", "show", "by-port", as_json=False).stdout)
    refused = cli("server", "create", "huge", "--image", "tiny", "--flavor", "no-such", "--nic", "none", check=False, as_json=False)
    assert refused.returncode != 0
    for name in names(cli("server", "list")):
        cli("server", "delete", "--wait", name, as_json=False)
    assert cli("port", "show", "eth")["status"] == "DOWN", "a port that was given stays"


def test_a_placement_that_fails_says_why(tenant, cloud):
    flavor = cloud.admin.compute.create_flavor(name=f"vast-{time.time()}", ram=1 << 30, vcpus=1, disk=1)
    try:
        cloud.admin.compute.put(f"/os-quota-sets/{tenant.project.id}", json={"quota_set": {"ram": -1}})
        server = tenant.api.compute.create_server(name="vast", image_id=cloud.image.id, flavor_id=flavor.id, networks="none")
        fault = eventually("it fails", 20, lambda: tenant.api.compute.get_server(server).fault)
        assert "No valid host" in fault["message"] and "too little free memory" in fault["message"]
    finally:
        cloud.admin.compute.delete_flavor(flavor)


def test_what_an_operator_sees(cloud, tenant, monkeypatch):
    def cli(*args, **more):
        monkeypatch.setattr(tenant, "env", {"OS_CLIENT_CONFIG_FILE": str(cloud.nacre.state / "clouds.yaml"), "OS_CLOUD": "nacre"})
        return tenant.cli(*args, **more)
    assert {"identity", "image", "network", "compute"} <= {row["Type"] for row in cli("catalog", "list")}
    assert cli("token", "issue")["id"]
    for noun in ("project", "user", "role", "domain", "service", "flavor", "image", "network"):
        assert cli(noun, "list"), noun
    assert cli("endpoint", "list") and cli("region", "list")
    assert {"admin", "manager", "member", "reader", "service"} <= names(cli("role", "list"))
    assert cli("role", "assignment", "list", "--names")
    services = cli("compute", "service", "list")
    assert any(row["Binary"] == "nova-compute" and row["State"] == "up" for row in services)
    hypervisors = cli("hypervisor", "list")
    assert hypervisors[0]["State"] == "up"
    assert cli("hypervisor", "show", hypervisors[0]["Hypervisor Hostname"])["hypervisor_type"] == "QEMU"
    assert cli("availability", "zone", "list")
    assert cli("quota", "show", tenant.project.id)
    cli("quota", "set", "--instances", "3", "--ports", "7", tenant.project.id, as_json=False)
    shown = {row["Resource"]: row["Limit"] for row in cli("quota", "show", tenant.project.id)}
    assert shown["instances"] == 3 and shown["ports"] == 7
    assert cli("limits", "show", "--absolute")
    assert cli("server", "list", "--all-projects") is not None
    flavor = cli("flavor", "create", "m2.test", "--ram", "256", "--vcpus", "1", "--disk", "1", "--property", "a:b=c")
    assert cli("flavor", "show", flavor["id"])["properties"] == {"a:b": "c"}
    cli("flavor", "delete", "m2.test", as_json=False)
    name = f"cli-{time.time_ns()}"
    cli("project", "create", name)
    cli("user", "create", name, "--password", "Secret-1", "--project", name)
    cli("role", "add", "--user", name, "--project", name, "member", as_json=False)
    cli("user", "set", name, "--disable", as_json=False)
    cli("role", "remove", "--user", name, "--project", name, "member", as_json=False)
    cli("user", "delete", name, as_json=False)
    cli("project", "delete", name, as_json=False)


def test_tenants_see_nothing_of_each_other(cloud):
    with cloud.tenant("owner") as owner, cloud.tenant("stranger") as stranger:
        network, group = owner.network(), owner.group()
        server = owner.server(network, [group])
        port, router = owner.port(server), owner.router
        for args in (("server", "show", server.id), ("network", "show", network.id), ("port", "show", port.id),
                     ("router", "show", router.id), ("security", "group", "show", group.id), ("server", "delete", server.id)):
            refused = stranger.cli(*args, check=False, as_json=False)
            assert refused.returncode != 0 and server.name not in refused.stdout, args
        assert stranger.cli("server", "list") == []
        assert network.id not in {row["ID"] for row in stranger.cli("network", "list")}
