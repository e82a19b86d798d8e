-- Keys of secrets that must be read again, wrapped under the installation's master key.
create table secret_keys (
    id         text   primary key,
    wrapped    text   not null,
    created_at bigint not null
);

create table credentials (
    id         text   primary key,
    user_id    text   not null references users (id) on delete cascade,
    project_id text   references projects (id) on delete cascade,
    type       text   not null,                  -- ec2, totp, cert...
    access     text,                             -- of ec2: by what requests name it
    blob       text   not null,                  -- sealed under the key
    key_id     text   not null references secret_keys (id),
    used_step  bigint,                           -- of totp: the last 30 s whose passcode was used
    extra      text   not null default '{}',
    created_at bigint not null
);
create unique index credentials_access on credentials (access);
create index credentials_user on credentials (user_id, type, id);
create index credentials_project on credentials (project_id);
create index credentials_order on credentials (type, id);
create index credentials_key on credentials (key_id);

create table application_credentials (
    id           text   primary key,
    user_id      text   not null references users (id) on delete cascade,
    project_id   text   not null references projects (id) on delete cascade,
    name         text   not null,
    description  text,
    secret_hash  text   not null,
    role_ids     text   not null,                -- JSON
    expires_at   bigint,
    unrestricted bigint not null,
    restricted_to_rules bigint not null,         -- 1: only what its access rules allow, also where it has none
    created_at   bigint not null
);
create unique index application_credentials_name on application_credentials (user_id, name);
create index application_credentials_order on application_credentials (user_id, id);
create index application_credentials_project on application_credentials (project_id);

create table access_rules (
    id      text primary key,
    user_id text not null references users (id) on delete cascade,
    service text not null,
    method  text not null,
    path    text not null
);
create unique index access_rules_rule on access_rules (user_id, service, method, path);
create index access_rules_order on access_rules (user_id, id);

create table application_credential_rules (
    application_credential_id text not null references application_credentials (id) on delete cascade,
    access_rule_id            text not null references access_rules (id) on delete cascade,
    primary key (application_credential_id, access_rule_id)
);
create index application_credential_rules_rule on application_credential_rules (access_rule_id);

create table trusts (
    id                   text   primary key,
    trustor_user_id      text   not null references users (id) on delete cascade,
    trustee_user_id      text   not null references users (id) on delete cascade,
    holder_user_id       text   not null references users (id) on delete cascade, -- whose roles: the first trustor of a chain
    project_id           text   references projects (id) on delete cascade,
    impersonation        bigint not null,
    role_ids             text   not null,        -- JSON
    expires_at           bigint,
    remaining_uses       bigint,
    redelegation_count   bigint not null,
    redelegated_trust_id text,
    deleted_at           bigint,
    created_at           bigint not null
);
create index trusts_order on trusts (created_at, id);
create index trusts_trustor on trusts (trustor_user_id, created_at, id);
create index trusts_trustee on trusts (trustee_user_id, created_at, id);
create index trusts_holder on trusts (holder_user_id);
create index trusts_project on trusts (project_id);
create index trusts_redelegated on trusts (redelegated_trust_id);

create table oauth_consumers (
    id          text   primary key,
    description text,
    secret      text   not null,                 -- sealed under the key
    key_id      text   not null references secret_keys (id),
    extra       text   not null default '{}',
    created_at  bigint not null
);
create index oauth_consumers_order on oauth_consumers (created_at, id);
create index oauth_consumers_key on oauth_consumers (key_id);

-- Request tokens until they are exchanged, access tokens after.
create table oauth_tokens (
    id          text   primary key,
    kind        text   not null,                 -- request, access
    consumer_id text   not null references oauth_consumers (id) on delete cascade,
    project_id  text   not null references projects (id) on delete cascade,
    user_id     text   references users (id) on delete cascade, -- who authorized it
    secret      text   not null,                 -- sealed under the key
    key_id      text   not null references secret_keys (id),
    verifier    text,
    role_ids    text   not null default '[]',    -- JSON
    expires_at  bigint not null
);
create index oauth_tokens_user on oauth_tokens (user_id, kind, id);
create index oauth_tokens_consumer on oauth_tokens (consumer_id);
create index oauth_tokens_project on oauth_tokens (project_id);
create index oauth_tokens_key on oauth_tokens (key_id);
create index oauth_tokens_end on oauth_tokens (expires_at);

-- What voided tokens, for those who ask; tokens themselves are checked against generations and rows.
create table revocation_events (
    id         text   primary key,
    event      text   not null,                  -- JSON, as clients see it
    revoked_at bigint not null
);
create index revocation_events_order on revocation_events (revoked_at, id);
