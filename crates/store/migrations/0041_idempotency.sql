-- Which requests with an Idempotency-Key took effect, and their answers. See store/src/idempotency.rs.
create table idempotency_keys (
    owner        text   not null,          -- user and scope
    key_hash     text   not null,
    request_hash text   not null,          -- of method, path, query and body
    request_id   text   not null,
    at           bigint not null,
    answer       text   not null,          -- sealed under the key itself; '' until it was given
    primary key (owner, key_hash)
);
create index idempotency_keys_at on idempotency_keys (at);
