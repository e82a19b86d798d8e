-- Networks (Neutron). What every table has in common:
--   revision           counts changes of intent; shown as revision_number
--   realized_revision  the revision that OVN's northbound database holds; -1 before the first
--   deleted_at         set by the API; the row goes when the flow has removed it from OVN
-- Addresses, MACs and quota of a deleted row are given back at once, by the transaction that sets deleted_at.

create table networks (
    id                    text   primary key,
    project_id            text   not null,
    name                  text   not null,
    description           text   not null,
    admin_state_up        bigint not null,
    status                text   not null,
    shared                bigint not null,
    external              bigint not null,
    is_default            bigint not null,          -- the external network that `auto` uses
    auto_allocated        bigint not null,          -- made for servers with networks=auto
    mtu                   bigint not null,
    port_security_enabled bigint not null,
    network_type          text   not null,          -- geneve, flat, vlan
    physical_network      text,
    segmentation_id       bigint,
    revision              bigint not null,
    realized_revision     bigint not null,
    created_at            bigint not null,
    updated_at            bigint not null,
    deleted_at            bigint
);
create index networks_project on networks (project_id, id) where deleted_at is null;
create index networks_common on networks (id) where deleted_at is null and (shared = 1 or external = 1);
create unique index networks_segment on networks (network_type, coalesce(physical_network, ''), coalesce(segmentation_id, -1))
    where deleted_at is null;
create unique index networks_auto on networks (project_id) where auto_allocated = 1 and deleted_at is null;

create table subnets (
    id                text   primary key,
    network_id        text   not null,
    project_id        text   not null,
    name              text   not null,
    description       text   not null,
    ip_version        bigint not null,
    cidr              text   not null,
    gateway_ip        text,
    enable_dhcp       bigint not null,
    dns_nameservers   text   not null,              -- JSON: addresses
    host_routes       text   not null,              -- JSON: {destination, nexthop}
    ipv6_ra_mode      text,
    ipv6_address_mode text,
    revision          bigint not null,
    realized_revision bigint not null,
    created_at        bigint not null,
    updated_at        bigint not null,
    deleted_at        bigint
);
create index subnets_project on subnets (project_id, id) where deleted_at is null;
create index subnets_network on subnets (network_id, id);

-- Where addresses come from when nobody asks for a certain one. `host` everywhere is an address' distance from the
-- first of its subnet. `next_host` goes round: an address is given again as late as possible.
create table allocation_pools (
    subnet_id  text   not null references subnets (id) on delete cascade,
    first_host bigint not null,
    last_host  bigint not null,
    next_host  bigint not null,
    primary key (subnet_id, first_host)
);

create table ports (
    id                    text   primary key,
    network_id            text   not null,
    project_id            text   not null,          -- '' for ports that belong to nobody: gateways, floating IPs
    name                  text   not null,
    description           text   not null,
    admin_state_up        bigint not null,
    status                text   not null,
    mac                   text   not null,
    device_id             text   not null,
    device_owner          text   not null,
    port_security_enabled bigint not null,
    allowed_address_pairs text   not null,          -- JSON: {mac_address, ip_address}
    host                  text   not null,          -- binding:host_id
    vnic_type             text   not null,
    binding_profile       text   not null,          -- JSON
    active                bigint not null,          -- its host reports that packets flow
    revision              bigint not null,
    realized_revision     bigint not null,
    created_at            bigint not null,
    updated_at            bigint not null,
    deleted_at            bigint
);
create unique index ports_mac on ports (network_id, mac) where deleted_at is null;
create index ports_project on ports (project_id, id) where deleted_at is null;
create index ports_device on ports (device_id) where device_id <> '';
create index ports_host on ports (host) where host <> '';

create table port_ips (
    subnet_id text   not null references subnets (id),
    host      bigint not null,
    port_id   text   not null references ports (id) on delete cascade,
    ip        text   not null,
    position  bigint not null,                      -- order within the port
    primary key (subnet_id, host)
);
create index port_ips_port on port_ips (port_id, position);
create index port_ips_ip on port_ips (ip);

create table routers (
    id                  text   primary key,
    project_id          text   not null,
    name                text   not null,
    description         text   not null,
    admin_state_up      bigint not null,
    status              text   not null,
    external_network_id text,                       -- where its gateway port is
    enable_snat         bigint not null,
    routes              text   not null,            -- JSON: {destination, nexthop}
    revision            bigint not null,
    realized_revision   bigint not null,
    created_at          bigint not null,
    updated_at          bigint not null,
    deleted_at          bigint
);
create index routers_project on routers (project_id, id) where deleted_at is null;
create index routers_external on routers (external_network_id) where external_network_id is not null;

create table floating_ips (
    id                  text   primary key,
    project_id          text   not null,
    description         text   not null,
    status              text   not null,
    floating_network_id text   not null,
    floating_port_id    text   not null,            -- holds the address
    address             text   not null,
    port_id             text,                       -- associated with this port ...
    fixed_ip            text,                       -- ... under this address of it ...
    router_id           text,                       -- ... by this router
    revision            bigint not null,
    realized_revision   bigint not null,
    created_at          bigint not null,
    updated_at          bigint not null,
    deleted_at          bigint
);
create index floating_ips_project on floating_ips (project_id, id) where deleted_at is null;
create index floating_ips_network on floating_ips (floating_network_id) where deleted_at is null;
create index floating_ips_router on floating_ips (router_id) where router_id is not null;
create unique index floating_ips_target on floating_ips (port_id, fixed_ip, floating_network_id)
    where port_id is not null and deleted_at is null;

create table security_groups (
    id                text   primary key,
    project_id        text   not null,
    name              text   not null,
    description       text   not null,
    stateful          bigint not null,
    revision          bigint not null,
    realized_revision bigint not null,
    created_at        bigint not null,
    updated_at        bigint not null,
    deleted_at        bigint
);
create index security_groups_project on security_groups (project_id, id) where deleted_at is null;
create unique index security_groups_default on security_groups (project_id) where name = 'default' and deleted_at is null;

create table security_group_rules (
    id                text   primary key,
    security_group_id text   not null references security_groups (id) on delete cascade,
    project_id        text   not null,
    description       text   not null,
    direction         text   not null,              -- ingress, egress
    ethertype         text   not null,              -- IPv4, IPv6
    protocol          text,                         -- as the client named it
    port_range_min    bigint,
    port_range_max    bigint,
    remote_ip_prefix  text,
    remote_group_id   text   references security_groups (id) on delete cascade,
    revision          bigint not null,
    created_at        bigint not null,
    updated_at        bigint not null
);
create index security_group_rules_group on security_group_rules (security_group_id, id);
create index security_group_rules_project on security_group_rules (project_id, id);
create index security_group_rules_remote on security_group_rules (remote_group_id) where remote_group_id is not null;

create table port_security_groups (
    port_id           text not null references ports (id) on delete cascade,
    security_group_id text not null references security_groups (id),
    primary key (port_id, security_group_id)
);
create index port_security_groups_group on port_security_groups (security_group_id, port_id);

-- Tags of any of these resources.
create table network_tags (
    resource_id text not null,
    tag         text not null,
    primary key (resource_id, tag)
);
create index network_tags_tag on network_tags (tag, resource_id);

-- Hosts as OVN knows them: who may hold a router's gateway.
create table chassis (
    name       text   primary key,                  -- the system-id of the host's Open vSwitch
    host       text   not null,
    alive      bigint not null,
    created_at bigint not null,
    updated_at bigint not null
);
