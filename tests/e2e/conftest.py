"""A whole cloud for the suite: real QEMU and OVN, started by `nacre up` in the network namespace that the run made.

Run by `make e2e` (`tests/in-namespace pytest tests/e2e`). Every packet stays in that namespace.
"""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import uuid

import openstack
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NACRE = pathlib.Path(os.environ.get("NACRE_BIN", ROOT / "target/release/nacre"))
IMAGE = pathlib.Path(os.environ.get("NACRE_TEST_IMAGE", ROOT / "build/images/nacre-tiny.qcow2"))
OPENSTACK = ROOT / ".venv/bin/openstack"
PORT = "8899"
SSH_SECONDS_MAX = 120
# Single sign-on: the provider is on loopback, and so is who waits for tokens.
os.environ["NACRE_OUTBOUND_ALLOW"] = "127.0.0.0/8"
os.environ["NACRE_TRUSTED_DASHBOARDS"] = "http://localhost:9990/auth/websso/"


def pytest_configure(config):
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout)
    if any(link["ifname"] != "lo" for link in links):
        pytest.exit("run it in a namespace of its own: tests/in-namespace .venv/bin/pytest tests/e2e", 2)


def eventually(what, seconds, check):
    """Waits until `check` returns something true, and returns it; fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        if result := check():
            return result
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Nacre:
    """The cloud's process and its command line."""

    def __init__(self, state, options=()):
        self.state, self.options = pathlib.Path(state), list(options)

    def run(self, *args, check=True, timeout=120):
        done = subprocess.run([NACRE, "--state-dir", self.state, *args], capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"nacre {' '.join(map(str, args))}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def up(self):
        return self.run("up", "--port", PORT, *self.options)

    def pid(self):
        return int((self.state / "run/nacre.pid").read_text())

    def kill(self):
        """SIGKILL, and wait until the process is gone."""
        pid = self.pid()
        os.kill(pid, 9)
        eventually("the killed process is gone", 10, lambda: not alive(pid))

    def doctor(self):
        """The findings."""
        done = self.run("doctor", "--json", check=False)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)["findings"]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Tenant:
    """A project with one member, and what tests need of it."""

    def __init__(self, cloud, name):
        self.name = f"{name}-{uuid.uuid4().hex[:6]}"
        admin = cloud.admin
        self.cloud, password = cloud, uuid.uuid4().hex
        self.project = admin.identity.create_project(name=self.name, domain_id="default")
        self.user = admin.identity.create_user(name=self.name, password=password, domain_id="default", default_project_id=self.project.id)
        for role in ("member", "reader"):
            admin.identity.assign_project_role_to_user(self.project, self.user, admin.identity.find_role(role, ignore_missing=False))
        self.env = {"OS_AUTH_URL": cloud.auth_url, "OS_USERNAME": self.name, "OS_PASSWORD": password, "OS_PROJECT_NAME": self.name,
                    "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_IDENTITY_API_VERSION": "3",
                    "OS_REGION_NAME": "RegionOne"}
        self.api = openstack.connect(load_envvars=False, load_yaml_config=False, region_name="RegionOne", compute_api_version="2.100",
                                     auth=dict(auth_url=cloud.auth_url, username=self.name, password=password,
                                               project_name=self.name, user_domain_name="Default", project_domain_name="Default"))
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=cloud.folder))
        self.key_file = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", self.key_file], check=True)
        self.key = self.api.compute.create_keypair(name=self.name, public_key=self.key_file.with_suffix(".pub").read_text().strip())

    def cli(self, *args, check=True, as_json=True):
        """The unmodified `openstack` command as this user; its JSON, or its text."""
        extra = ["-f", "json"] if as_json else []
        done = subprocess.run([OPENSTACK, *args, *extra], capture_output=True, text=True, timeout=300,
                              env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.env})
        if check:
            assert done.returncode == 0, f"openstack {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        if not as_json:
            return done
        return json.loads(done.stdout) if done.stdout.strip() else None

    def network(self, cidr="10.20.0.0/24", router=True):
        net = self.api.network
        network = net.create_network(name=self.name)
        subnet = net.create_subnet(network_id=network.id, ip_version=4, cidr=cidr, name=self.name)
        if router:
            outside = net.find_network("public", ignore_missing=False)
            self.router = net.create_router(name=self.name, external_gateway_info={"network_id": outside.id})
            net.add_interface_to_router(self.router, subnet_id=subnet.id)
        return network

    def allow(self, group, protocol="tcp", port=22, **more):
        return self.api.network.create_security_group_rule(security_group_id=group.id, direction="ingress", ether_type="IPv4",
                                                           protocol=protocol, port_range_min=port, port_range_max=port, **more)

    def group(self, *, ssh=True, ping=True):
        group = self.api.network.create_security_group(name=f"{self.name}-{uuid.uuid4().hex[:4]}")
        if ssh:
            self.allow(group)
        if ping:
            self.allow(group, "icmp", None)
        return group

    def server(self, network, groups=(), wait=True, **more):
        if groups:
            more["security_groups"] = [{"name": group.name} for group in groups]
        server = self.api.compute.create_server(
            name=more.pop("name", self.name), image_id=self.cloud.image.id, flavor_id="42", key_name=self.key.name,
            networks=more.pop("networks", None) or [{"uuid": network.id}], **more)
        return self.active(server) if wait else server

    def active(self, server):
        return self.api.compute.wait_for_server(server, wait=90, interval=0.1)

    def port(self, server):
        return next(iter(self.api.network.ports(device_id=server.id)))

    def floating_ip(self, server):
        outside = self.api.network.find_network("public", ignore_missing=False)
        return self.api.network.create_ip(floating_network_id=outside.id, port_id=self.port(server).id).floating_ip_address

    def ssh(self, address, command, check=True, timeout=60, through=None):
        """Runs a command in a guest; `through` is the floating IP of another guest to jump by."""
        options = ["-i", str(self.key_file), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                   "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
        if through:
            options += ["-o", "ProxyCommand=" + " ".join(["ssh", *options, "-W", "%h:%p", f"nacre@{through}"])]
        done = subprocess.run(["ssh", *options, f"nacre@{address}", command], capture_output=True, text=True, timeout=timeout)
        if check:
            assert done.returncode == 0, f"ssh {address} {command}: {done.returncode} {done.stdout}{done.stderr}"
        return done

    def reachable(self, address, through=None):
        """Waits until the guest lets its owner in."""
        eventually(f"SSH at {address}", SSH_SECONDS_MAX,
                   lambda: self.ssh(address, "true", check=False, through=through).returncode == 0)

    def console(self, server):
        return self.api.compute.get_server_console_output(server)["output"]

    def clean(self):
        """Everything of the tenant, through the API."""
        compute, net = self.api.compute, self.api.network
        for server in compute.servers():
            compute.delete_server(server)
        for server in compute.servers():
            compute.wait_for_delete(server, wait=60, interval=0.1)
        for ip in net.ips(project_id=self.project.id):
            net.delete_ip(ip)
        for router in net.routers(project_id=self.project.id):
            for port in net.ports(device_id=router.id, device_owner="network:router_interface"):
                net.remove_interface_from_router(router, port_id=port.id)
            net.delete_router(router)
        for port in net.ports(project_id=self.project.id):
            if not port.device_owner.startswith("network:"):
                net.delete_port(port)
        for network in net.networks(project_id=self.project.id):
            net.delete_network(network)
        for group in net.security_groups(project_id=self.project.id):
            if group.name != "default":
                net.delete_security_group(group)
        compute.delete_keypair(self.key)
        self.cloud.admin.identity.delete_user(self.user)
        self.cloud.admin.identity.delete_project(self.project)


class Cloud:
    """The cloud as its administrator sees it."""

    def __init__(self, folder, options=()):
        self.folder = pathlib.Path(folder)
        self.nacre = Nacre(self.folder / "state", options=options)
        self.nacre.up()
        self.auth_url = f"http://127.0.0.1:{PORT}/identity/v3"
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(self.nacre.state / "clouds.yaml")
        self.admin = openstack.connect(cloud="nacre")
        self.image = self.admin.create_image("tiny", filename=str(IMAGE), disk_format="qcow2", container_format="bare",
                                             visibility="public", wait=True)

    @contextlib.contextmanager
    def tenant(self, name):
        tenant = Tenant(self, name)
        yield tenant
        tenant.clean()


@pytest.fixture(scope="session")
def cloud():
    folder = tempfile.mkdtemp(prefix="nacre-e2e-", dir=os.environ.get("NACRE_E2E_DIR"))
    os.chmod(folder, 0o711)  # QEMU's own user passes through
    cloud = Cloud(folder)
    try:
        yield cloud
        findings = cloud.nacre.doctor()
        assert findings == [], "the suite left the cloud in disorder"
    finally:
        shutil.copytree(cloud.nacre.state / "log", ROOT / "build/e2e-log", dirs_exist_ok=True)
        cloud.nacre.run("down")
        shutil.rmtree(folder)


@pytest.fixture
def tenant(cloud, request):
    with cloud.tenant(request.node.originalname[:20].replace("_", "-")) as tenant:
        yield tenant
