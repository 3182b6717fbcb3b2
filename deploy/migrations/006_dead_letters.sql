-- The index of the topic streamlens.dlq: a row a letter, with where the topic has it. The events' bytes stay there.

create table dead_letters (
    topic text not null,
    partition integer not null,
    origin_offset bigint not null,
    letter_offset bigint not null, -- in the same partition of streamlens.dlq; the last one, if it was published twice
    reason text not null,
    tenant_id text not null, -- '' when it is not known
    field text not null,
    detail text not null,
    found_at timestamptz not null,
    size_bytes integer not null,
    truncated boolean not null,
    digest bytea not null, -- of the event's bytes: the same bytes are the same event
    primary key (topic, partition, origin_offset)
);

create index dead_letters_by_time on dead_letters (found_at, topic, partition, origin_offset);
create index dead_letters_by_reason on dead_letters (reason, found_at, topic, partition, origin_offset);
create index dead_letters_by_tenant on dead_letters (tenant_id, found_at, topic, partition, origin_offset);
create index dead_letters_by_place on dead_letters (partition, letter_offset);

-- Which events were sent again, and when the last time.
create table dead_letter_replays (
    topic text not null,
    digest bytea not null,
    replayed_at timestamptz not null,
    primary key (topic, digest)
);
