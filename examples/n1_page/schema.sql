-- A blog: a page of 100 posts, each by another author.
CREATE TABLE authors (id int PRIMARY KEY, name text NOT NULL, bio text);
CREATE TABLE posts (id int PRIMARY KEY, author_id int NOT NULL REFERENCES authors, title text NOT NULL);
INSERT INTO authors SELECT g, 'author ' || g, repeat('words ', 10) FROM generate_series(1, 5000) g;
INSERT INTO posts SELECT g, g * 7 % 5000 + 1, 'post ' || g FROM generate_series(1, 20000) g;
ANALYZE;
