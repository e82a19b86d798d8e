-- Images whose data a host delivers: snapshots of servers' disks. See store::images::deliveries.
create table image_deliveries (
    image_id   text   primary key references images (id) on delete cascade,
    host_id    text   not null,
    flow_id    text   not null,                  -- woken when the data is there or refused
    refusal    text   not null default '',       -- why what was delivered can't become the data
    created_at bigint not null
);
