-- Identity providers: who else may say who somebody is. Its users live in its domain.
create table identity_providers (
    id                text   primary key,
    domain_id         text   not null references domains (id),
    description       text,
    enabled           bigint not null,
    authorization_ttl bigint,                    -- minutes for which groups of a login are kept; null: its token's time
    created_at        bigint not null
);
create index identity_providers_domain on identity_providers (domain_id);

create table identity_provider_remote_ids (
    remote_id text primary key,
    idp_id    text not null references identity_providers (id) on delete cascade
);
create index identity_provider_remote_ids_idp on identity_provider_remote_ids (idp_id);

create table federation_mappings (
    id             text primary key,
    rules          text not null,                -- JSON
    schema_version text not null
);

create table federation_protocols (
    idp_id              text not null references identity_providers (id) on delete cascade,
    id                  text not null,
    mapping_id          text not null references federation_mappings (id),
    remote_id_attribute text,
    primary key (idp_id, id)
);
create index federation_protocols_mapping on federation_protocols (mapping_id);

-- What a protocol needs to speak OpenID Connect with its provider. The secret is sealed under the master key.
create table oidc_clients (
    idp_id        text   not null,
    protocol_id   text   not null,
    issuer        text   not null,
    client_id     text   not null,
    client_secret text,
    scopes        text   not null,
    audiences     text   not null,               -- JSON: whom access tokens must be meant for
    access_tokens text   not null,               -- jwt, introspection
    user_info     bigint not null,               -- 1: ask the provider for more claims of an access token
    primary key (idp_id, protocol_id),
    foreign key (idp_id, protocol_id) references federation_protocols (idp_id, id) on delete cascade
);

-- Logins that are under way in a browser.
create table oidc_logins (
    id          text   primary key,              -- digest of the state
    idp_id      text   not null,
    protocol_id text   not null,
    sealed      text   not null,                 -- nonce, verifier, origin, digest of the cookie
    expires_at  bigint not null,
    foreign key (idp_id, protocol_id) references federation_protocols (idp_id, id) on delete cascade
);
create index oidc_logins_end on oidc_logins (expires_at);

create table service_providers (
    id                 text   primary key,
    description        text,
    enabled            bigint not null,
    auth_url           text   not null,
    sp_url             text   not null,
    relay_state_prefix text   not null
);

-- The users that providers have sent, each with the one that stands for it here.
create table federated_users (
    idp_id       text not null references identity_providers (id) on delete cascade,
    protocol_id  text not null,
    unique_id    text not null,
    user_id      text not null references users (id) on delete cascade,
    display_name text not null,
    primary key (idp_id, protocol_id, unique_id)
);
create index federated_users_user on federated_users (user_id);

-- Groups that a provider said a user is in, for as long as its word holds. Each is a row of group_members too, which goes
-- when this one does, unless it was there before.
create table expiring_group_members (
    user_id    text   not null references users (id) on delete cascade,
    group_id   text   not null references user_groups (id) on delete cascade,
    idp_id     text   not null references identity_providers (id) on delete cascade,
    added      bigint not null,                  -- 1: made the membership
    expires_at bigint not null,
    primary key (user_id, group_id, idp_id)
);
create index expiring_group_members_group on expiring_group_members (group_id, user_id);

-- Users and groups of directories: the id that a directory's entry has here, for ever the same.
create table directory_entries (
    public_id text   primary key,
    domain_id text   not null references domains (id) on delete cascade,
    kind      text   not null,                   -- user, group
    local_id  text   not null,                   -- as the directory has it
    seen_at   bigint not null                    -- when the directory was last asked about it
);
create unique index directory_entries_local on directory_entries (domain_id, kind, local_id);
