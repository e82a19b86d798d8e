-- Durable work: one row per resource that something is still to be done about. See crate `flow`.
create table flows (
    id           text   primary key,            -- the resource's own id
    kind         text   not null,               -- which machine runs it: server, port, network...
    step         text   not null,
    data         text   not null default '{}',  -- small notes of the machine to itself, JSON
    run_at       bigint not null,               -- due from here on
    lease        text,                          -- token of the worker that holds it
    lease_until  bigint not null default 0,
    attempts     bigint not null default 0,     -- failures of this step in a row
    wakes        bigint not null default 0,     -- counts wake-ups, so that none is lost
    phase        text   not null default '',    -- what the deadline belongs to
    deadline     bigint,                        -- when the phase must have ended
    reason       text   not null default '',    -- what it waits for, for people
    last_error   text   not null default '',
    created_at   bigint not null,
    step_since   bigint not null
);
create index flows_due on flows (run_at, id);
create index flows_kind on flows (kind, step);

-- Limits that differ from the defaults. A row without a project is the default of the whole cloud.
create table quota_limits (
    project_id text   not null,                 -- '' for the defaults
    resource   text   not null,
    hard_limit bigint not null,                 -- -1: unlimited
    primary key (project_id, resource)
);

-- What is in use, changed in the transaction that changes the resource.
create table quota_usages (
    project_id text   not null,
    resource   text   not null,
    used       bigint not null,
    primary key (project_id, resource)
);

-- Facts of the installation that are neither configuration nor a resource: key material wrapped, versions, ids.
create table settings (
    name  text primary key,
    value text not null
);
