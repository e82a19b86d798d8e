-- Domains hold users and projects.
create table domains (
    id          text   primary key,
    name        text   not null unique,
    description text   not null default '',
    enabled     bigint not null,
    extra       text   not null default '{}',   -- attributes of the client's own, JSON
    created_at  bigint not null
);
create index domains_order on domains (name, id);

create table projects (
    id          text   primary key,
    domain_id   text   not null references domains (id),
    parent_id   text   references projects (id), -- null: directly below its domain
    name        text   not null,
    description text   not null default '',
    enabled     bigint not null,
    generation  bigint not null default 0,       -- tokens of an older generation are void
    tags        text   not null default '[]',
    extra       text   not null default '{}',
    created_at  bigint not null
);
create unique index projects_name on projects (domain_id, name);
create index projects_order on projects (name, id);
create index projects_parent on projects (parent_id);

create table users (
    id                 text   primary key,
    domain_id          text   not null references domains (id),
    name               text   not null,
    enabled            bigint not null,
    default_project_id text,
    password_hash      text,                     -- PHC string; null: can't log in by password
    generation         bigint not null default 0, -- tokens of an older generation are void
    extra              text   not null default '{}',
    created_at         bigint not null
);
create unique index users_name on users (domain_id, name);
create index users_order on users (name, id);

create table roles (
    id          text   primary key,
    name        text   not null,
    description text,
    extra       text   not null default '{}',
    created_at  bigint not null
);
create unique index roles_name on roles (name);

-- Whoever has the prior role has the implied one too.
create table role_implications (
    prior_role_id   text not null references roles (id) on delete cascade,
    implied_role_id text not null references roles (id) on delete cascade,
    primary key (prior_role_id, implied_role_id)
);

-- Who has which role where. Actor and target are of several kinds, so no foreign key can hold them: whoever deletes one
-- deletes its assignments, and the doctor looks for what dangles.
create table role_assignments (
    actor_kind  text   not null,                 -- user
    actor_id    text   not null,
    target_kind text   not null,                 -- project, domain, system
    target_id   text   not null,                 -- 'system' for the system
    role_id     text   not null references roles (id) on delete cascade,
    inherited   bigint not null default 0,       -- 1: holds in the projects below the target instead of in it
    primary key (actor_id, target_id, role_id, actor_kind, target_kind, inherited)
);
create index role_assignments_target on role_assignments (target_id, target_kind);
create index role_assignments_role on role_assignments (role_id);

create table regions (
    id               text   primary key,
    description      text   not null default '',
    parent_region_id text   references regions (id),
    extra            text   not null default '{}'
);

create table catalog_services (
    id          text   primary key,
    type        text   not null,
    name        text,
    description text,
    enabled     bigint not null,
    extra       text   not null default '{}'
);
create index catalog_services_type on catalog_services (type);

create table catalog_endpoints (
    id         text   primary key,
    service_id text   not null references catalog_services (id) on delete cascade,
    region_id  text   references regions (id),
    interface  text   not null,                  -- public, internal, admin
    url        text   not null,
    enabled    bigint not null,
    extra      text   not null default '{}'
);
create index catalog_endpoints_service on catalog_endpoints (service_id);
create index catalog_endpoints_region on catalog_endpoints (region_id);

-- Keys of Fernet tokens, wrapped under the installation's master key.
create table fernet_keys (
    id         text   primary key,
    state      text   not null,                  -- staged, primary, secondary
    wrapped    text   not null,
    created_at bigint not null,
    retired_at bigint                            -- since when it signs nothing any more
);

-- Tokens that were revoked before their time; a row may go when the token would have ended anyway.
create table token_revocations (
    audit_id   text   primary key,
    expires_at bigint not null
);
create index token_revocations_end on token_revocations (expires_at);

-- One row that every write of identity counts up: whoever cached what tokens mean looks here.
create table identity_revision (
    id       bigint primary key,
    revision bigint not null
);
insert into identity_revision (id, revision) values (1, 0);
