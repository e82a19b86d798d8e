-- Compute, wider: what a server is between two operations, groups of servers, aggregates of hosts.

-- JSON: what lasts from one operation to a later one (resized from which flavor, rescued with which image, shelved as
-- which image...): see store::compute::life.
alter table servers add column life text not null default '{}';
-- Images besides image_id that its host may fetch.
alter table servers add column root_image_id text;
alter table servers add column rescue_image_id text;

create table server_groups (
    id         text   primary key,
    project_id text   not null,
    user_id    text   not null,
    name       text   not null,
    policy     text   not null,                     -- affinity, anti-affinity, soft-affinity, soft-anti-affinity
    per_host   bigint,                              -- max_server_per_host of anti-affinity
    created_at bigint not null
);
create index server_groups_project on server_groups (project_id, created_at, id);

create table server_group_members (
    group_id  text not null references server_groups (id) on delete cascade,
    server_id text not null,
    primary key (server_id)
);
create index server_group_members_group on server_group_members (group_id);

create table aggregates (
    number     bigint primary key,                  -- as Nova shows it
    id         text   not null unique,              -- UUID
    name       text   not null unique,
    created_at bigint not null,
    updated_at bigint
);

create table aggregate_metadata (
    number bigint not null references aggregates (number) on delete cascade,
    name   text   not null,
    value  text   not null,
    primary key (number, name)
);

create table aggregate_hosts (
    number  bigint not null references aggregates (number) on delete cascade,
    host_id text   not null,
    primary key (number, host_id)
);
create index aggregate_hosts_host on aggregate_hosts (host_id);

-- Resizes and the like, as administrators list them.
create table server_migrations (
    number         bigint primary key,              -- as Nova shows it
    id             text   not null unique,          -- UUID
    server_id      text   not null,
    project_id     text   not null,
    user_id        text   not null,
    kind           text   not null,                 -- resize
    status         text   not null,                 -- migrating, finished, confirmed, reverted, error
    host           text   not null,
    old_flavor_id  text   not null,
    new_flavor_id  text   not null,
    created_at     bigint not null,
    updated_at     bigint not null
);
create index server_migrations_server on server_migrations (server_id);
create index server_migrations_updated on server_migrations (updated_at);
alter table hosts add column forced_down bigint not null default 0;
