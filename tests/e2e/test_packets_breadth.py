"""Packets prove what the network has beyond its core: names, single ports of floating IPs, limits, IPv6, trunks."""
import socket
import threading
import time

from conftest import eventually


def test_a_guest_is_found_by_its_name(tenant):
    network, group = tenant.network(), tenant.group()
    one = tenant.server(network, [group], name=f"{tenant.name}-one")
    address = tenant.floating_ip(one)
    tenant.reachable(address)
    port = tenant.api.network.create_port(network_id=network.id, dns_name="database")
    expected = port.fixed_ips[0]["ip_address"]
    # One look-up in the guest costs an SSH login, which takes longer than the name.
    eventually("the new port's name resolves", 5, lambda: expected in tenant.ssh(address, "nslookup database 9.9.9.9", check=False).stdout)
    assert expected in tenant.ssh(address, "nslookup database.novalocal 9.9.9.9", check=False).stdout


def test_one_port_of_a_floating_ip_leads_to_a_guest(tenant):
    network, group = tenant.network(), tenant.group()
    server = tenant.server(network, [group])
    outside = tenant.api.network.find_network("public", ignore_missing=False)
    ip = tenant.api.network.create_ip(floating_network_id=outside.id)
    forwarding = tenant.api.network.create_floating_ip_port_forwarding(
        ip, protocol="tcp", external_port=2222, internal_port=22, internal_port_id=tenant.port(server).id)

    def banner(port):
        try:
            with socket.create_connection((ip.floating_ip_address, port), timeout=1) as connection:
                connection.settimeout(3)
                return connection.recv(4)
        except OSError:
            return b""

    eventually("SSH answers on the forwarded port", 120, lambda: banner(2222) == b"SSH-")
    assert banner(22) == b"", "only that port leads there"
    tenant.api.network.delete_floating_ip_port_forwarding(ip, forwarding)
    eventually("the port is closed again", 5, lambda: banner(2222) == b"")


def test_ipv6_addresses_routes_and_metadata(tenant):
    network, group = tenant.network(), tenant.group()
    subnet = tenant.api.network.create_subnet(network_id=network.id, ip_version=6, cidr="fd00:20::/64", ipv6_ra_mode="slaac",
                                              ipv6_address_mode="slaac")
    tenant.api.network.add_interface_to_router(tenant.router, subnet_id=subnet.id)
    server = tenant.server(network, [group])
    address = tenant.floating_ip(server)
    tenant.reachable(address)
    six = next(ip["ip_address"] for ip in tenant.port(server).fixed_ips if ":" in ip["ip_address"])
    eventually("the guest has made the address that the API shows", 30,
               lambda: six in tenant.ssh(address, "ip -6 addr show dev eth0").stdout)
    assert "default via fe80::" in tenant.ssh(address, "ip -6 route").stdout
    asked = "wget -q -O - 'http://[fe80::a9fe:a9fe%eth0]/openstack/latest/meta_data.json'"
    raw = "printf 'GET /openstack/latest/meta_data.json HTTP/1.0\\r\\n\\r\\n' | nc fe80::a9fe:a9fe%eth0 80"
    answer = tenant.ssh(address, f"{asked} || {raw}", check=False).stdout
    assert server.id in answer, answer


def test_a_limit_limits(tenant, cloud):
    network, group = tenant.network(), tenant.group()
    server = tenant.server(network, [group])
    address = tenant.floating_ip(server)
    tenant.reachable(address)

    def sent(size):
        """Thousands of bits a second that arrive from the guest, between the first and the last of them."""
        with socket.create_server(("172.24.4.1", 7778)) as listener:
            listener.settimeout(20)
            guest = threading.Thread(target=tenant.ssh, args=(address, f"head -c {size} /dev/zero | nc 172.24.4.1 7778"),
                                     kwargs={"check": False, "timeout": 120})
            guest.start()
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                arrived, start = len(connection.recv(65536)), time.monotonic()
                while arrived < size:
                    arrived += len(connection.recv(65536))
                seconds = time.monotonic() - start
            guest.join()
        return arrived * 8 / seconds / 1000

    kbps = 2000
    free = sent(4_000_000)
    assert free > 2 * kbps, "without a limit it is faster, or this proves nothing"
    policy = cloud.admin.network.create_qos_policy(name=tenant.name, shared=True)
    try:
        cloud.admin.network.create_qos_bandwidth_limit_rule(policy, max_kbps=kbps, max_burst_kbps=1600, direction="egress")
        tenant.api.network.update_port(tenant.port(server), qos_policy_id=policy.id)
        sent(200_000)   # by then the limit holds
        measured = sent(2_000_000)
        print(f"without a limit {free:.0f} kbit/s, with one of {kbps}: {measured:.0f}")
        assert abs(measured - kbps) <= 0.15 * kbps
    finally:
        tenant.api.network.update_port(tenant.port(server), qos_policy_id=None)
        cloud.admin.network.delete_qos_policy(policy)
