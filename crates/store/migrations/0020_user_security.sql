-- What secures a user's login: Keystone's resource options, and the password's age.
alter table users add column options text not null default '{}';
alter table users add column password_at bigint;                          -- when it was set
alter table users add column password_expires_at bigint;
alter table users add column password_by_self bigint not null default 0;  -- 1: the user chose it, not an administrator
alter table users add column active_at bigint;                            -- last login, where the cloud counts idle days
create index users_password_expiry on users (password_expires_at, id);

-- Passwords that were in force before and the one in force, oldest first.
create table user_passwords (
    user_id  text   not null references users (id) on delete cascade,
    sequence bigint not null,
    hash     text   not null,
    primary key (user_id, sequence)
);

-- Failed logins in a row. Who doesn't exist is counted too, so that nobody learns from it who does.
create table login_failures (
    subject   text   primary key,               -- digest of the user's id, or of the name that is nobody's
    count     bigint not null,
    failed_at bigint not null
);
create index login_failures_age on login_failures (failed_at);
