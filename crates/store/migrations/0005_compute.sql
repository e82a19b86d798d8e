-- Compute (Nova): hosts, flavors, key pairs, servers and what hangs on them.

-- Hypervisor hosts, as their agents described them when they last connected.
create table hosts (
    id                 text   primary key,
    name               text   not null,
    zone               text   not null,
    enabled            bigint not null,             -- an administrator lets it take servers
    disabled_reason    text   not null,
    up                 bigint not null,             -- its agent is connected
    state_since        bigint not null,             -- of `up`
    seen_at            bigint not null,             -- last sign of life
    forgotten_at       bigint,                      -- will never return: what it held is written off
    agent_version      text   not null,
    boot_id            text   not null,
    accelerator        text   not null,
    cpu_model          text   not null,
    hypervisor_type    text   not null,
    hypervisor_version bigint not null,
    vcpus              bigint not null,             -- physical, before over-commit
    memory_mib         bigint not null,
    disk_gib           bigint not null,
    chassis            text   not null,
    addresses          text   not null,             -- JSON: list
    stats              text   not null,             -- JSON: the last heartbeat's
    created_at         bigint not null,
    updated_at         bigint not null
);
create unique index hosts_name on hosts (name) where forgotten_at is null;

create table flavors (
    id          text   primary key,                 -- as users see it: `42`
    name        text   not null unique,
    description text,
    vcpus       bigint not null,
    memory_mib  bigint not null,
    disk_gib    bigint not null,
    ephemeral_gib bigint not null,
    swap_mib    bigint not null,
    rxtx_factor text   not null,
    is_public   bigint not null,
    disabled    bigint not null,
    extra_specs text   not null,                    -- JSON: object of text
    created_at  bigint not null,
    updated_at  bigint not null
);

create table flavor_access (
    flavor_id  text not null references flavors (id) on delete cascade,
    project_id text not null,
    primary key (flavor_id, project_id)
);

create table keypairs (
    user_id     text   not null,
    name        text   not null,
    id          bigint not null,                    -- a number, as Nova shows it
    kind        text   not null,                    -- ssh
    public_key  text   not null,
    fingerprint text   not null,
    created_at  bigint not null,
    primary key (user_id, name)
);

create table servers (
    id                text   primary key,
    project_id        text   not null,
    user_id           text   not null,
    name              text   not null,
    description       text,
    hostname          text   not null,
    -- What was asked for. The flavor is copied: deleting or changing it does not change servers.
    flavor_id         text   not null,
    flavor            text   not null,              -- JSON: name, vcpus, ram, disk, ephemeral, swap, extra_specs
    cores             bigint not null,              -- of the flavor, for quota
    ram               bigint not null,
    image_id          text   not null,
    image             text   not null,              -- JSON: name, sha256, format, bytes, properties
    key_name          text,
    key_public        text,                         -- the key as it was when the server was created
    user_data         text,                         -- base64
    config_drive      bigint not null,
    disk_config       text   not null,              -- AUTO or MANUAL: shown, of no effect
    zone_wanted       text,
    host_wanted       text,
    scheduler_hints   text   not null,              -- JSON: object
    reservation_id    text   not null,
    launch_index      bigint not null,
    random_seed       text   not null,
    access_ipv4       text   not null,
    access_ipv6       text   not null,
    locked            bigint not null,
    locked_reason     text,
    -- Intent: written by the API, together with a wake of the flow.
    wanted_power      text   not null,              -- running, stopped
    boot              bigint not null,              -- raised for each start and reboot
    graceful          bigint not null,              -- how it is brought down next: by asking, or at once
    change            text   not null,              -- what is under way: '', start, stop, reboot, reboot_hard
    generation        bigint not null,              -- of the spec; grows with every change of intent
    -- What is: written by the flow and by the host's reports.
    host_id           text,
    node              text,                         -- the host's name, kept when it is gone
    zone              text,
    told_generation   bigint not null,              -- the newest that the host was sent; 0: none yet
    told_digest       text   not null,              -- of that spec, without its generation
    observed_generation bigint not null,
    observed_boot     bigint not null,
    observed_power    text   not null,              -- as the agent reports it: running, shutdown, paused, crashed, absent
    observed_phase    text   not null,              -- pending ... settled, failed
    observed_fault    text   not null,
    guest_password    text   not null,              -- as the guest posted it, encrypted for its owner's key
    fault_is_final    bigint not null,
    -- What users see: computed by one function from the columns above and the flow's step, in the same commit.
    vm_state          text   not null,
    task_state        text,
    power_state       bigint not null,
    status            text   not null,              -- derived from the two, for filters
    fault_code        bigint,
    fault_message     text,
    fault_details     text,
    fault_at          bigint,
    created_at        bigint not null,
    updated_at        bigint not null,
    launched_at       bigint,
    terminated_at     bigint,
    delete_wanted_at  bigint,                       -- the API's wish
    deleted_at        bigint                        -- gone from its host; the row stays for changes-since
);
create index servers_project on servers (project_id, created_at, id);
create index servers_created on servers (created_at, id);
create index servers_host on servers (host_id) where deleted_at is null;
create index servers_updated on servers (updated_at);
create index servers_deleted on servers (deleted_at) where deleted_at is not null;
create index servers_status on servers (project_id, status) where deleted_at is null;
create index servers_reservation on servers (reservation_id);

create table server_metadata (
    server_id text not null references servers (id) on delete cascade,
    name      text not null,
    value     text not null,
    primary key (server_id, name)
);

create table server_tags (
    server_id text not null references servers (id) on delete cascade,
    tag       text not null,
    primary key (server_id, tag)
);

-- A server's network interfaces in their order. The port's own facts are in `ports`.
create table server_ports (
    server_id text   not null references servers (id) on delete cascade,
    port_id   text   not null,
    position  bigint not null,
    ours      bigint not null,                      -- made for the server, so it goes with it
    tag       text,
    detach    bigint not null,                      -- to be unplugged
    primary key (server_id, port_id)
);
create index server_ports_port on server_ports (port_id);

-- What servers hold of hosts; inserted by the scheduler in the transaction that chooses.
create table allocations (
    server_id  text   primary key,
    host_id    text   not null,
    vcpus      bigint not null,
    memory_mib bigint not null,
    disk_gib   bigint not null,
    created_at bigint not null
);
create index allocations_host on allocations (host_id);

create table instance_actions (
    request_id text   not null,
    server_id  text   not null,
    generation bigint not null,                     -- of the server's spec: over once the host has reached it
    action     text   not null,                     -- create, start, stop, reboot, delete...
    user_id    text   not null,
    project_id text   not null,
    message    text,
    start_at   bigint not null,
    updated_at bigint not null,
    finish_at  bigint,
    primary key (server_id, request_id)
);

create table instance_action_events (
    server_id  text   not null,
    request_id text   not null,
    event      text   not null,                     -- compute__do_build_and_run_instance...
    start_at   bigint not null,
    finish_at  bigint,
    result     text,                                -- Success, Error
    details    text,
    host       text,
    primary key (server_id, request_id, event)
);
