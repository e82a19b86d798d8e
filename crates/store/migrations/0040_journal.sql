-- What happened: state changes for whoever follows them (events), requests for auditors (audit). A row is written in the
-- transaction of what it tells of; sealing then gives it its place in one order without gaps. `written` counts insertions
-- on PostgreSQL; on SQLite it stays null, there the rowid does.
create table journal_heads (
    name      text   primary key,          -- events, audit
    seq       bigint not null,             -- the newest place given
    hash      text   not null,             -- audit: the newest entry's
    tail_seq  bigint not null,             -- the newest place that retention has removed
    tail_hash text   not null              -- audit: the hash of that entry, from which the chain goes on
);
insert into journal_heads (name, seq, hash, tail_seq, tail_hash) values ('events', 0, '', 0, ''), ('audit', 0, '', 0, '');

create table events (
    written     bigserial,
    seq         bigint,                    -- null until sealed
    at          bigint not null,
    resource    text   not null,           -- server, port, network...
    resource_id text   not null,
    change      text   not null,           -- created, updated, deleted
    project_id  text   not null,           -- whose it is; '' for nobody's: administrators see it
    user_id     text   not null,           -- whose it is, where resources belong to users
    status      text   not null,           -- '' where the resource has none
    request_id  text   not null            -- '' where no request did it but the cloud itself
);
create unique index events_seq on events (seq);
create unique index events_written on events (written);
create index events_unsealed on events (written) where seq is null;
create index events_project on events (project_id, seq);
create index events_user on events (user_id, seq) where user_id <> '';
create index events_at on events (at);

create table audit (
    written     bigserial,
    seq         bigint,                    -- null until sealed
    hash        text   not null,           -- '' until sealed; of the entry before and of this one's columns
    at          bigint not null,
    request_id  text   not null,
    actor       text   not null,           -- user; '' for the cloud itself
    scope       text   not null,           -- project:ID, domain:ID, system, unscoped
    address     text   not null,           -- where the request came from; '' where nobody knows
    service     text   not null,
    method      text   not null,
    path        text   not null,
    action      text   not null,           -- the policy rule, or the route where it has none
    target_type text   not null,
    target_id   text   not null,
    project_id  text   not null,           -- the target's, else the actor's
    outcome     text   not null,           -- success, refused, failed
    status      bigint not null,           -- HTTP; 0: written with the change itself, before there was an answer
    reason      text   not null,           -- the error's code; '' after success
    details     text   not null            -- JSON, of the cloud's own entries; else ''
);
create unique index audit_seq on audit (seq);
create unique index audit_written on audit (written);
create index audit_unsealed on audit (written) where seq is null;
create index audit_project on audit (project_id, seq);
create index audit_actor on audit (actor, seq);
create index audit_target on audit (target_id, seq);
create index audit_request on audit (request_id);
create index audit_at on audit (at);

-- By what events call a key pair.
create index keypairs_of_events on keypairs ((user_id || '/' || name));
