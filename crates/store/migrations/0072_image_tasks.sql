-- Imports: data that waits in the staging area, and the tasks that tell how imports went. See store::images::tasks.
alter table images add column staged text;               -- JSON: what is known of staged data; null without
alter table images add column import_state text;         -- running, done, failed; null where nothing was ever imported

create table image_tasks (
    id         text   primary key,
    image_id   text   not null,                  -- outlives the image
    owner      text   not null,                  -- project
    user_id    text   not null,
    request_id text   not null,
    kind       text   not null,                  -- api_image_import, import
    status     text   not null,                  -- pending, processing, success, failure
    input      text   not null,                  -- JSON
    result     text,                             -- JSON
    message    text   not null default '',
    created_at bigint not null,
    updated_at bigint not null,
    expires_at bigint
);
create index image_tasks_image on image_tasks (image_id, created_at, id);
create index image_tasks_created on image_tasks (created_at, id);
create index image_tasks_owner on image_tasks (owner, created_at, id);
create index image_tasks_expires on image_tasks (expires_at) where expires_at is not null;
