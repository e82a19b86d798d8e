-- Resources of the network service that have nothing of their own in OVN. What all of them have is what `plain.rs` reads.
create table address_scopes (
    id          text   primary key,
    project_id  text   not null,
    name        text   not null,
    description text   not null,
    ip_version  bigint not null,
    shared      bigint not null,
    revision    bigint not null,
    created_at  bigint not null,
    updated_at  bigint not null
);
create index address_scopes_project on address_scopes (project_id, id);

create table subnetpools (
    id                text   primary key,
    project_id        text   not null,
    name              text   not null,
    description       text   not null,
    ip_version        bigint not null,
    prefixes          text   not null,              -- JSON: CIDRs that do not overlap
    default_prefixlen bigint not null,
    min_prefixlen     bigint not null,
    max_prefixlen     bigint not null,
    default_quota     bigint,                       -- addresses (IPv6: /64 networks) that one project may take
    address_scope_id  text   references address_scopes (id),
    shared            bigint not null,
    is_default        bigint not null,
    revision          bigint not null,
    created_at        bigint not null,
    updated_at        bigint not null
);
create index subnetpools_project on subnetpools (project_id, id);
create index subnetpools_scope on subnetpools (address_scope_id) where address_scope_id is not null;
create unique index subnetpools_default on subnetpools (ip_version) where is_default = 1;
alter table subnets add column subnetpool_id text references subnetpools (id);
create index subnets_pool on subnets (subnetpool_id) where subnetpool_id is not null;

create table address_groups (
    id          text   primary key,
    project_id  text   not null,
    name        text   not null,
    description text   not null,
    addresses   text   not null,                    -- JSON: CIDRs
    revision    bigint not null,
    created_at  bigint not null,
    updated_at  bigint not null
);
create index address_groups_project on address_groups (project_id, id);
alter table security_group_rules add column remote_address_group_id text references address_groups (id);
create index security_group_rules_addresses on security_group_rules (remote_address_group_id)
    where remote_address_group_id is not null;

create table metering_labels (
    id          text   primary key,
    project_id  text   not null,
    name        text   not null,
    description text   not null,
    shared      bigint not null,
    revision    bigint not null,
    created_at  bigint not null,
    updated_at  bigint not null
);
create index metering_labels_project on metering_labels (project_id, id);

create table metering_label_rules (
    id                    text   primary key,
    project_id            text   not null,
    name                  text   not null,          -- '': rules have none
    description           text   not null,
    metering_label_id     text   not null references metering_labels (id) on delete cascade,
    direction             text   not null,
    excluded              bigint not null,
    remote_ip_prefix      text,
    source_ip_prefix      text,
    destination_ip_prefix text,
    revision              bigint not null,
    created_at            bigint not null,
    updated_at            bigint not null
);
create index metering_label_rules_label on metering_label_rules (metering_label_id, id);

-- Names that guests have and can look up.
alter table networks add column dns_domain text not null default '';
alter table ports add column dns_name text not null default '';
