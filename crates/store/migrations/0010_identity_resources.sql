-- Groups of users. Whatever role a group has, its members have.
create table user_groups (
    id          text   primary key,
    domain_id   text   not null references domains (id),
    name        text   not null,
    description text   not null default '',
    extra       text   not null default '{}',
    created_at  bigint not null
);
create unique index user_groups_name on user_groups (domain_id, name);
create index user_groups_order on user_groups (name, id);

create table group_members (
    user_id  text not null references users (id) on delete cascade,
    group_id text not null references user_groups (id) on delete cascade,
    primary key (user_id, group_id)
);
create index group_members_group on group_members (group_id, user_id);

-- Resource options: {"immutable": true} keeps a thing from being changed and deleted.
alter table domains add column options text not null default '{}';
alter table domains add column tags text not null default '[]';
alter table projects add column options text not null default '{}';
alter table roles add column options text not null default '{}';

-- Roles of a domain's own imply others and are never in a token themselves.
alter table roles add column domain_id text references domains (id);
drop index roles_name;
create unique index roles_name on roles (coalesce(domain_id, ''), name);
create index roles_order on roles (name, id);

-- Which endpoints a project's catalog shows: these and those of its endpoint groups. Neither: all of them.
create table project_endpoints (
    project_id  text not null references projects (id) on delete cascade,
    endpoint_id text not null references catalog_endpoints (id) on delete cascade,
    primary key (project_id, endpoint_id)
);
create index project_endpoints_endpoint on project_endpoints (endpoint_id);

create table endpoint_groups (
    id          text primary key,
    name        text not null,
    description text,
    filters     text not null                    -- {"service_id", "region_id", "interface"}: endpoints that match all
);
create index endpoint_groups_order on endpoint_groups (name, id);

create table project_endpoint_groups (
    project_id        text not null references projects (id) on delete cascade,
    endpoint_group_id text not null references endpoint_groups (id) on delete cascade,
    primary key (project_id, endpoint_group_id)
);
create index project_endpoint_groups_group on project_endpoint_groups (endpoint_group_id);

-- Documents that services may fetch, and for which endpoints, services or services in a region.
create table policies (
    id    text primary key,
    type  text not null,
    blob  text not null,
    extra text not null default '{}'
);
create table policy_associations (
    policy_id   text not null references policies (id) on delete cascade,
    endpoint_id text references catalog_endpoints (id) on delete cascade,
    service_id  text references catalog_services (id) on delete cascade,
    region_id   text references regions (id) on delete cascade
);
create unique index policy_associations_spot
    on policy_associations (coalesce(endpoint_id, ''), coalesce(service_id, ''), coalesce(region_id, ''));
create index policy_associations_policy on policy_associations (policy_id);

-- What a service's resource is limited to, and the exceptions of projects and domains.
create table registered_limits (
    id            text   primary key,
    service_id    text   not null references catalog_services (id) on delete cascade,
    region_id     text   references regions (id) on delete cascade,
    resource_name text   not null,
    default_limit bigint not null,
    description   text
);
create unique index registered_limits_spot
    on registered_limits (service_id, coalesce(region_id, ''), resource_name);
create table limits (
    id                  text   primary key,
    registered_limit_id text   not null references registered_limits (id) on delete cascade,
    project_id          text   references projects (id) on delete cascade,
    domain_id           text   references domains (id) on delete cascade,
    resource_limit      bigint not null,
    description         text
);
create unique index limits_spot
    on limits (registered_limit_id, coalesce(project_id, ''), coalesce(domain_id, ''));
create index limits_project on limits (project_id);
create index limits_domain on limits (domain_id);

-- A domain's own settings. Secret values are sealed under the installation's master key.
create table domain_config (
    domain_id    text   not null references domains (id) on delete cascade,
    option_group text   not null,
    name         text   not null,
    value        text   not null,                -- JSON, or its sealed form
    sensitive    bigint not null,
    primary key (domain_id, option_group, name)
);

-- Projects by what stands above them, whether that is a project or their domain.
create index projects_above on projects (coalesce(parent_id, domain_id), name);
