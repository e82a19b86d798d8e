-- What a directory had once and has no more: its id and assignments stay, should it come back.
alter table directory_entries add column gone bigint not null default 0;
create index directory_entries_gone on directory_entries (gone, public_id);
