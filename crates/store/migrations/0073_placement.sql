-- What Placement's API knows besides hosts and servers' claims, which stay the only truth about them. See store::placement.
alter table hosts add column generation bigint not null default 0;  -- grows with whatever is claimed of it

create table placement_providers (
    id         text   primary key,
    name       text   not null unique,
    parent_id  text,
    generation bigint not null default 0,
    created_at bigint not null,
    updated_at bigint not null
);

-- Of hosts, only what their agents do not report: custom classes.
create table placement_inventories (
    provider_id    text   not null,
    resource_class text   not null,
    total          bigint not null,
    reserved       bigint not null,
    min_unit       bigint not null,
    max_unit       bigint not null,
    step_size      bigint not null,
    ratio          text   not null,              -- decimal
    primary key (provider_id, resource_class)
);

create table placement_consumers (
    id         text   primary key,
    project_id text   not null,
    user_id    text   not null,
    kind       text   not null,                  -- the API's consumer_type
    generation bigint not null,
    created_at bigint not null,
    updated_at bigint not null
);
create index placement_consumers_project on placement_consumers (project_id, user_id);

create table placement_allocations (
    consumer_id    text   not null,
    provider_id    text   not null,
    resource_class text   not null,
    used           bigint not null,
    primary key (consumer_id, provider_id, resource_class)
);
create index placement_allocations_provider on placement_allocations (provider_id);

-- Of providers; those that are nobody's (yet) have an empty provider.
create table placement_traits (
    provider_id text not null,
    trait       text not null,
    primary key (provider_id, trait)
);
create index placement_traits_trait on placement_traits (trait);

create table placement_classes (
    name text primary key
);

create table placement_aggregates (
    provider_id text not null,
    aggregate   text not null,
    primary key (provider_id, aggregate)
);
create index placement_aggregates_aggregate on placement_aggregates (aggregate);
