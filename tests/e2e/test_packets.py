"""Packets prove the network: what may not pass does not, what may does, and soon."""
import socket
import time

from conftest import eventually


def opens(address, port=22, seconds=0.3):
    try:
        with socket.create_connection((address, port), timeout=seconds) as connection:
            connection.settimeout(2)
            return connection.recv(4).startswith(b"SSH")
    except OSError:
        return False


def test_a_rule_opens_and_its_removal_closes_within_a_second(tenant):
    network, group = tenant.network(), tenant.group(ssh=True, ping=False)
    server = tenant.server(network, [group])
    address = tenant.floating_ip(server)
    tenant.reachable(address)
    rule = next(r for r in tenant.api.network.security_group_rules(security_group_id=group.id, direction="ingress"))

    tenant.api.network.delete_security_group_rule(rule)
    eventually("closed after the rule is gone", 1, lambda: not opens(address))
    assert not any(opens(address) for _ in range(3)), "without a permitting rule nothing gets in"

    start = time.monotonic()
    tenant.allow(group)
    eventually("open after the rule is back", 1, lambda: opens(address))
    print(f"rule to SSH banner: {time.monotonic() - start:.3f} s")


def test_guests_of_one_network_meet_and_snat_leads_outside(tenant, cloud):
    network, group = tenant.network(), tenant.group()
    one, two = (tenant.server(network, [group], name=f"{tenant.name}-{n}") for n in (1, 2))
    address = tenant.floating_ip(one)
    tenant.reachable(address)
    other = tenant.port(two).fixed_ips[0]["ip_address"]
    eventually("the second guest answers", 60, lambda: tenant.ssh(address, f"ping -c 1 -W 1 {other}", check=False).returncode == 0)

    # The second guest has no floating IP: it reaches the outside by the router's SNAT. The outside is this namespace.
    gateway = next(f["ip_address"] for f in tenant.router.external_gateway_info["external_fixed_ips"])
    tenant.reachable(other, through=address)
    with socket.create_server(("172.24.4.1", 7777)) as listener:
        listener.settimeout(20)
        tenant.ssh(other, "echo probe | timeout 3 nc 172.24.4.1 7777", check=False, through=address)
        connection, peer = listener.accept()
        with connection:
            assert connection.recv(5) == b"probe"
    assert peer[0] == gateway, "the source is the router's own address"


def test_two_tenants_with_the_same_cidr_do_not_meet(cloud):
    with cloud.tenant("left") as left, cloud.tenant("right") as right:
        pairs = []
        for tenant in (left, right):
            network, group = tenant.network("10.33.0.0/24"), tenant.group()
            port = tenant.api.network.create_port(network_id=network.id, fixed_ips=[{"ip_address": "10.33.0.10"}],
                                                  security_group_ids=[group.id])
            first = tenant.server(network, networks=[{"port": port.id}], name=f"{tenant.name}-first")
            pairs.append((tenant, first, tenant.floating_ip(first)))
        for tenant, server, address in pairs:
            tenant.reachable(address)
            assert tenant.ssh(address, "hostname").stdout.strip() == server.name
        # A guest that only the left tenant has is not there for the right one, though the address is in its subnet.
        left_only = left.server(left.api.network.find_network(left.name), [left.group()], name=f"{left.name}-second")
        lonely = left.port(left_only).fixed_ips[0]["ip_address"]
        eventually("the neighbour answers at home", 60,
                   lambda: left.ssh(pairs[0][2], f"ping -c 1 -W 1 {lonely}", check=False).returncode == 0)
        assert right.ssh(pairs[1][2], f"ping -c 2 -W 1 {lonely}", check=False).returncode != 0


def test_a_spoofed_source_is_dropped(tenant):
    network, group = tenant.network(), tenant.group()
    one, two = (tenant.server(network, [group], name=f"{tenant.name}-{n}") for n in (1, 2))
    address = tenant.floating_ip(one)
    tenant.reachable(address)
    other = tenant.port(two).fixed_ips[0]["ip_address"]
    eventually("the honest ping passes", 60, lambda: tenant.ssh(address, f"ping -c 1 -W 1 {other}", check=False).returncode == 0)
    spoofed = "10.20.0.222"
    tenant.ssh(address, f"sudo ip addr add {spoofed}/32 dev eth0")
    assert tenant.ssh(address, f"ping -c 2 -W 1 -I {spoofed} {other}", check=False).returncode != 0
    # Port security is what drops it: where it is off, the same packet passes.
    for server in (one, two):
        tenant.api.network.update_port(tenant.port(server), port_security_enabled=False, security_group_ids=[])
    eventually("the same packet passes without port security", 10,
               lambda: tenant.ssh(address, f"ping -c 1 -W 1 -I {spoofed} {other}", check=False).returncode == 0)
