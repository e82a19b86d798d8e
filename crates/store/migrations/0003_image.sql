-- Images: what the API shows, and where the data lies. See store::images.
create table images (
    id               text   primary key,
    owner            text   not null,            -- project
    name             text,                       -- may be null, as in Glance
    status           text   not null,            -- queued, saving, active, deactivated, deleted
    visibility       text   not null,            -- public, community, shared, private
    disk_format      text,
    container_format text,
    min_disk         bigint not null default 0,  -- GiB
    min_ram          bigint not null default 0,  -- MiB
    protected        bigint not null default 0,
    hidden           bigint not null default 0,
    size             bigint,                     -- bytes of the file
    virtual_size     bigint,                     -- bytes of the disk that a guest sees
    checksum         text,                       -- MD5, hex
    hash_algo        text,
    hash_value       text,                       -- hex
    sha256           text,                       -- hex; what agents verify their copy against
    file             text,                       -- relative to the image directory; null until there is data
    generation       bigint not null default 0,  -- counts uploads: the newest alone may become the data
    upload_seen      bigint,                     -- when the upload under way was last heard of
    created_at       bigint not null,
    updated_at       bigint not null
);
create index images_created on images (created_at, id);
create index images_owner on images (owner, created_at, id);
create index images_visible on images (visibility, created_at, id);
create index images_name on images (name);

create table image_properties (
    image_id text not null references images (id) on delete cascade,
    name     text not null,
    value    text not null,
    primary key (image_id, name)
);
-- Not on the value: PostgreSQL's index entries end at 2.7 KB, values at 64.
create index image_properties_name on image_properties (name, image_id);

create table image_tags (
    image_id text not null references images (id) on delete cascade,
    tag      text not null,
    primary key (image_id, tag)
);
create index image_tags_tag on image_tags (tag, image_id);

-- Projects that a shared image is shared with.
create table image_members (
    image_id   text   not null references images (id) on delete cascade,
    member     text   not null,                  -- project
    status     text   not null,                  -- pending, accepted, rejected
    created_at bigint not null,
    updated_at bigint not null,
    primary key (image_id, member)
);
create index image_members_member on image_members (member, image_id);
