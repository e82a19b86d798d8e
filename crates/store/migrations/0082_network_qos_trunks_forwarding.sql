-- Quality of service, trunks, and ports of floating IPs.
create table qos_policies (
    id          text   primary key,
    project_id  text   not null,
    name        text   not null,
    description text   not null,
    shared      bigint not null,
    is_default  bigint not null,
    revision    bigint not null,
    created_at  bigint not null,
    updated_at  bigint not null
);
create index qos_policies_project on qos_policies (project_id, id);

create table qos_rules (
    id         text   primary key,
    policy_id  text   not null references qos_policies (id) on delete cascade,
    kind       text   not null,                     -- bandwidth_limit, dscp_marking, minimum_bandwidth
    direction  text   not null,                     -- ingress, egress: seen from the guest
    kbps       bigint not null,                     -- the limit or minimum; 0 for dscp_marking
    burst_kb   bigint not null,
    dscp_mark  bigint not null                      -- 0 for the others
);
create unique index qos_rules_policy on qos_rules (policy_id, kind, direction);
alter table ports add column qos_policy_id text references qos_policies (id);
create index ports_qos on ports (qos_policy_id) where qos_policy_id is not null;
alter table networks add column qos_policy_id text references qos_policies (id);
create index networks_qos on networks (qos_policy_id) where qos_policy_id is not null;

create table trunks (
    id             text   primary key,
    project_id     text   not null,
    name           text   not null,
    description    text   not null,
    port_id        text   not null references ports (id),
    admin_state_up bigint not null,
    revision       bigint not null,
    created_at     bigint not null,
    updated_at     bigint not null
);
create unique index trunks_port on trunks (port_id);
create index trunks_project on trunks (project_id, id);

create table trunk_subports (
    port_id         text   primary key references ports (id),
    trunk_id        text   not null references trunks (id) on delete cascade,
    segmentation_id bigint not null
);
create unique index trunk_subports_tag on trunk_subports (trunk_id, segmentation_id);

create table port_forwardings (
    id                  text   primary key,
    project_id          text   not null,
    name                text   not null,            -- '': forwardings have none
    description         text   not null,
    floating_ip_id      text   not null references floating_ips (id) on delete cascade,
    protocol            text   not null,            -- tcp, udp
    external_port       bigint not null,
    internal_port_id    text   not null references ports (id),
    internal_ip_address text   not null,
    internal_port       bigint not null,
    revision            bigint not null,
    created_at          bigint not null,
    updated_at          bigint not null
);
create unique index port_forwardings_outside on port_forwardings (floating_ip_id, protocol, external_port);
create index port_forwardings_inside on port_forwardings (internal_port_id);
