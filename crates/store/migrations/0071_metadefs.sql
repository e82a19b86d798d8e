-- Glance's catalogue of metadata definitions. See store::images::metadefs.
create table metadef_namespaces (
    namespace    text   primary key,
    display_name text,
    description  text,
    visibility   text   not null,                -- public, private
    protected    bigint not null default 0,
    owner        text   not null,                -- project
    created_at   bigint not null,
    updated_at   bigint not null
);
create index metadef_namespaces_created on metadef_namespaces (created_at, namespace);

-- Objects, properties and tags.
create table metadef_items (
    namespace  text   not null references metadef_namespaces (namespace) on delete cascade on update cascade,
    kind       text   not null,                  -- object, property, tag
    name       text   not null,
    body       text   not null,                  -- JSON: what the API shows besides the name and the times
    created_at bigint not null,
    updated_at bigint not null,
    primary key (namespace, kind, name)
);

create table metadef_resource_types (
    name       text   primary key,
    protected  bigint not null default 1,
    created_at bigint not null,
    updated_at bigint not null
);
insert into metadef_resource_types (name, created_at, updated_at) values
    ('OS::Cinder::Volume', 0, 0), ('OS::Glance::Image', 0, 0), ('OS::Nova::Aggregate', 0, 0),
    ('OS::Nova::Flavor', 0, 0), ('OS::Nova::Server', 0, 0);

-- Which namespaces describe which types of resources.
create table metadef_associations (
    namespace         text   not null references metadef_namespaces (namespace) on delete cascade on update cascade,
    resource_type     text   not null references metadef_resource_types (name) on delete cascade,
    prefix            text,
    properties_target text,
    created_at        bigint not null,
    updated_at        bigint not null,
    primary key (namespace, resource_type)
);
create index metadef_associations_type on metadef_associations (resource_type, namespace);
