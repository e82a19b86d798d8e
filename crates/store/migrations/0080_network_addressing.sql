-- What subnets and ports say beyond their addresses.
alter table subnets add column service_types text not null default '[]';    -- JSON: device owners that may use it
alter table ports add column extra_dhcp_opts text not null default '[]';    -- JSON: {opt_name, opt_value, ip_version}
create index ports_extra_dhcp_opts on ports (id) where extra_dhcp_opts <> '[]';
