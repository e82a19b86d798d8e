select 1; -- replaced by the tables of this service
