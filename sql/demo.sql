-- The demonstration's schema: created through Shoal by ./quickstart, on every shard.
CREATE TABLE users (
    id      bigint PRIMARY KEY,
    name    text NOT NULL,
    email   text NOT NULL,
    balance int NOT NULL DEFAULT 0
);
