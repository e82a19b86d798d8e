#!/usr/bin/env python3
"""What a first user does, through the public API alone: from an image file to a login by SSH through a floating IP.

usage: demo.py --state-dir DIR --image FILE.qcow2
Reads clouds.yaml in the state directory and acts as the ordinary user of the cloud `demo`. Run again, it finds what it made.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import threading
import time

import openstack
import openstack.exceptions

NAME = "demo"
USER_DATA = "#!/bin/sh\necho \"user-data ran on $(hostname)\" > /run/nacre-demo\n"
SERVER_SECONDS_MAX = 60
SSH_SECONDS_MAX = 90


class Step:
    """One line: what is done, a dot a second after two seconds, how long it took and what came of it."""

    def __init__(self, title):
        self.title, self.result, self.ended = title, "", threading.Event()

    def __enter__(self):
        print(f"  {self.title:34}", end="", flush=True)
        self.start = time.monotonic()
        self.ticker = threading.Thread(target=self.tick, daemon=True)
        self.ticker.start()
        return self

    def tick(self):
        while not self.ended.wait(1):
            if time.monotonic() - self.start > 2:
                print(".", end="", flush=True)

    def __exit__(self, kind, error, trace):
        self.ended.set()
        self.ticker.join()
        print(f" {time.monotonic() - self.start:5.1f} s  {'FAILED' if kind else self.result}", flush=True)


class Demo:
    def __init__(self, options):
        self.state = pathlib.Path(options.state_dir)
        self.image_file = pathlib.Path(options.image)
        self.folder = self.state / "demo"
        self.key_file = self.folder / "id_ecdsa"
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(self.state / "clouds.yaml")
        self.cloud = openstack.connect(cloud="demo")

    def run(self):
        with Step("log in as demo") as step:
            step.result = "project " + self.cloud.current_project.name
        image, key = self.image(), self.keypair()
        network, router = self.network()
        group = self.security_group()
        server, address = self.server(image, key, network, group), None
        address = self.floating_ip(server)
        self.login(server, address)
        return address

    def image(self):
        with Step("upload the image") as step:
            image = self.cloud.image.find_image(NAME)
            step.result = "exists"
            if image is None or image.status != "active":
                size = self.image_file.stat().st_size
                if image is not None:
                    self.cloud.image.delete_image(image)
                image = self.cloud.create_image(NAME, filename=str(self.image_file), disk_format="qcow2",
                                                container_format="bare", wait=True, timeout=60)
                step.result = f"{size / 2**20:.1f} MiB, {image.id}"
            return image

    def keypair(self):
        with Step("make a key pair") as step:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if not self.key_file.exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", NAME, "-f", str(self.key_file)], check=True)
            public = self.key_file.with_suffix(".pub").read_text().strip()
            key = self.cloud.compute.find_keypair(NAME)
            step.result = "exists"
            if key is None:
                key = self.cloud.compute.create_keypair(name=NAME, public_key=public)
                step.result = key.fingerprint
            return key

    def network(self):
        net = self.cloud.network
        with Step("make a network and a subnet") as step:
            network = net.find_network(NAME)
            step.result = "exists"
            if network is None:
                network = net.create_network(name=NAME)
            subnet = next(iter(net.subnets(network_id=network.id)), None)
            if subnet is None:
                subnet = net.create_subnet(name=NAME, network_id=network.id, ip_version=4, cidr="10.10.0.0/24")
                step.result = subnet.cidr
        with Step("make a router to the outside") as step:
            outside = next(iter(net.networks(is_router_external=True)))
            router = net.find_router(NAME)
            step.result = "exists"
            if router is None:
                router = net.create_router(name=NAME, external_gateway_info={"network_id": outside.id})
                step.result = "to " + outside.name
            if not any(net.ports(device_id=router.id, network_id=network.id)):
                net.add_interface_to_router(router, subnet_id=subnet.id)
        return network, router

    def security_group(self):
        net = self.cloud.network
        with Step("let SSH and ping in") as step:
            group = net.find_security_group(NAME)
            step.result = "exists"
            if group is None:
                group = net.create_security_group(name=NAME, description="SSH and ping from anywhere")
                step.result = group.id
            have = {(r.protocol, r.port_range_min) for r in net.security_group_rules(security_group_id=group.id, direction="ingress")}
            for protocol, port in (("tcp", 22), ("icmp", None)):
                if (protocol, port) not in have:
                    net.create_security_group_rule(security_group_id=group.id, direction="ingress", ether_type="IPv4",
                                                   protocol=protocol, port_range_min=port, port_range_max=port)
            return group

    def server(self, image, key, network, group):
        with Step("start a server") as step:
            server = self.cloud.compute.find_server(NAME)
            if server is not None and server.status == "ERROR":
                self.cloud.delete_server(server.id, wait=True)
                server = None
            step.result = "exists"
            if server is None:
                flavor = self.cloud.compute.find_flavor("m1.nano", ignore_missing=False)
                server = self.cloud.create_server(NAME, image=image, flavor=flavor, network=network.id, key_name=key.name,
                                                  security_groups=[group.name], userdata=USER_DATA, auto_ip=False, wait=False)
                step.result = f"{flavor.name}, {server.id}"
            elif server.status == "SHUTOFF":
                self.cloud.compute.start_server(server)
                step.result = "started again"
            return self.cloud.compute.wait_for_server(server, wait=SERVER_SECONDS_MAX, interval=0.1)

    def floating_ip(self, server):
        net = self.cloud.network
        with Step("give it a floating IP") as step:
            port = next(iter(net.ports(device_id=server.id)))
            ip = next(iter(net.ips(port_id=port.id)), None)
            known = ip is not None
            if not known:
                outside = next(iter(net.networks(is_router_external=True)))
                ip = net.create_ip(floating_network_id=outside.id, port_id=port.id)
            step.result = ip.floating_ip_address + (" (exists)" if known else "")
            return ip.floating_ip_address

    def ssh(self, address, command):
        return subprocess.run(["ssh", "-i", str(self.key_file), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                               "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", f"nacre@{address}", command],
                              capture_output=True, text=True, timeout=30)

    def login(self, server, address):
        with Step("log in by SSH") as step:
            end = time.monotonic() + SSH_SECONDS_MAX
            while (answer := self.ssh(address, "hostname; uname -sr")).returncode != 0:
                if time.monotonic() > end:
                    raise RuntimeError(f"no login at {address} in {SSH_SECONDS_MAX} s: {answer.stderr.strip()}\n"
                                       + (self.cloud.get_server_console(server.id) or "")[-2000:])
                time.sleep(0.2)
            step.result = answer.stdout.strip().replace("\n", ", ")
        with Step("see that the user-data ran") as step:
            # It runs after SSH is up: wait for its file, in the guest.
            answer = self.ssh(address, "i=0; while [ ! -s /run/nacre-demo ] && [ $i -lt 100 ]; do i=$((i+1)); sleep 0.1; done; cat /run/nacre-demo")
            if "user-data ran on" not in answer.stdout:
                raise RuntimeError("the user-data did not run: " + answer.stderr)
            step.result = answer.stdout.strip()
        with Step("ask the metadata service") as step:
            answer = self.ssh(address, "timeout 5 wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json")
            if server.id not in answer.stdout:
                raise RuntimeError("the metadata service did not answer with this server's id: " + answer.stdout + answer.stderr)
            step.result = "it knows " + server.id


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--image", required=True)
    options = parser.parse_args()
    start = time.monotonic()
    try:
        demo = Demo(options)
        address = demo.run()
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted; what was made stays. Run it again, or clean up with: nacre down")
    except (RuntimeError, subprocess.SubprocessError, openstack.exceptions.SDKException) as error:
        sys.exit(f"demo: {error}")
    clouds = demo.state / "clouds.yaml"
    print(f"""
The demo took {time.monotonic() - start:.1f} s. The cloud stays up.
  clouds.yaml  {clouds}
  logs         {demo.state / "log"}
  log in       ssh -i {demo.key_file} nacre@{address}
Type next:
  export OS_CLIENT_CONFIG_FILE={clouds} OS_CLOUD=demo
  .venv/bin/openstack server list
  .venv/bin/openstack console log show demo
  target/release/nacre --state-dir {demo.state} doctor
  target/release/nacre --state-dir {demo.state} down""")


if __name__ == "__main__":
    main()
