"""The catalogue's schema as numbered steps. Append only: a step that was released never changes."""

from __future__ import annotations

import sqlite_utils
from sqlite_utils import Migrations

migrations = Migrations("embedsearch")


def apply(db: sqlite_utils.Database) -> int:
    """Bring ``db`` up to date and return its schema version (the number of steps)."""
    migrations.apply(db)
    version = len(migrations.applied(db))
    db.execute(f"pragma user_version = {version}")
    return version


@migrations()
def m001_spine(db: sqlite_utils.Database) -> None:
    """Roots, pictures, their regions and embeddings, encoders, failures, runs."""
    db.executescript(
        """
        create table roots (
            id integer primary key,
            path blob not null unique,     -- os.fsencode of the absolute path
            name text not null,            -- the same, printable
            device integer not null        -- st_dev when it was last scanned
        );
        create table images (
            id integer primary key autoincrement,
            root_id integer not null references roots (id),
            path blob not null,            -- os.fsencode, relative to the root
            name text not null,            -- the same, printable
            size integer not null,
            mtime_ns integer not null,
            hash text not null,
            width integer not null,        -- of the upright picture, pixels
            height integer not null,
            format text not null,
            taken_at text,                 -- ISO 8601
            exif text,                     -- JSON
            status text not null check (status in ('ok', 'failed', 'vanished')),
            unique (root_id, path)
        );
        create index images_by_content on images (hash, size, status);
        create index images_by_status on images (status);
        -- AUTOINCREMENT: an id is a FAISS id and must never come back with another meaning.
        create table regions (
            id integer primary key autoincrement,
            image_id integer not null references images (id) on delete cascade,
            kind text not null check (kind in ('image', 'object', 'track')),
            x real not null, y real not null, w real not null, h real not null,
            label text,
            score real,
            mask text                      -- COCO RLE, JSON
        );
        create index regions_by_image on regions (image_id, kind);
        create table encoders (
            id integer primary key,
            encoder_id text not null unique,
            info text not null,            -- EncoderInfo as JSON
            revision text not null         -- random, new with every change of its embeddings
        );
        create table embeddings (
            region_id integer not null references regions (id) on delete cascade,
            encoder integer not null references encoders (id),
            vector blob not null,          -- float16, L2-normalised
            primary key (region_id, encoder)
        );
        create index embeddings_by_encoder on embeddings (encoder, region_id);
        create table failures (
            path blob primary key,         -- absolute, os.fsencode
            name text not null,
            stage text not null,
            reason text not null,
            run_id integer not null
        ) without rowid;
        create table runs (
            id integer primary key,
            started_at text not null,
            finished_at text,              -- null: the run was killed
            version text not null,
            counts text                    -- JSON
        );
        create view pictures as
            select
                id,
                path,
                case when beside = '/' then '/' else rtrim(beside, '/') end as folder,
                substr(path, length(beside) + 1) as name,
                size, width, height, format, taken_at,
                datetime(mtime_ns / 1000000000, 'unixepoch') as modified_at,
                exif
            from (
                -- What is left of a path when all that is no slash is trimmed off its end.
                select *, rtrim(path, replace(path, '/', '')) as beside from (
                    select
                        images.id as id,
                        rtrim(roots.name, '/') || '/' || images.name as path,
                        size, width, height, format, taken_at, mtime_ns, exif
                    from images join roots on roots.id = root_id
                    where status = 'ok'
                )
            );
        """
    )


@migrations()
def m002_explore(db: sqlite_utils.Database) -> None:
    """Clusters, maps, tags; the view of pictures tells of clusters and tags."""
    db.executescript(
        """
        -- One clustering at a time: `cluster = 3` must mean one thing.
        create table clusterings (
            id integer primary key check (id = 1),
            encoder integer not null references encoders (id),
            method text not null,
            parameters text not null,      -- JSON
            made_at text not null
        );
        create table clusters (
            number integer primary key,    -- 1, 2, ...; kept when pictures are added later
            name text not null,
            medoid integer references regions (id) on delete set null,
            centroid blob not null         -- float16, L2-normalised, of the clustering's encoder
        );
        create table cluster_members (
            region_id integer primary key references regions (id) on delete cascade,
            number integer not null references clusters (number) on delete cascade,
            similarity real not null       -- cosine to the centroid
        );
        create index cluster_members_by_number on cluster_members (number);
        create table projections (
            id integer primary key,
            encoder integer not null references encoders (id),
            method text not null,
            parameters text not null,      -- JSON
            made_at text not null,
            unique (encoder, method)
        );
        create table projection_points (
            projection integer not null references projections (id) on delete cascade,
            region_id integer not null references regions (id) on delete cascade,
            x real not null,
            y real not null,
            primary key (projection, region_id)
        ) without rowid;
        create index projection_points_by_region on projection_points (region_id);
        create table tags (
            image_id integer not null references images (id) on delete cascade,
            tag text not null,
            score real,                    -- null: given by a person
            primary key (image_id, tag)
        ) without rowid;
        create index tags_by_tag on tags (tag);
        drop view pictures;
        create view pictures as
            select
                id,
                path,
                case when beside = '/' then '/' else rtrim(beside, '/') end as folder,
                substr(path, length(beside) + 1) as name,
                size, width, height, format, taken_at,
                datetime(mtime_ns / 1000000000, 'unixepoch') as modified_at,
                exif,
                (
                    select number from regions join cluster_members on region_id = regions.id
                    where image_id = whole.id and kind = 'image'
                ) as cluster,
                (
                    select clusters.name from regions
                    join cluster_members on region_id = regions.id join clusters using (number)
                    where image_id = whole.id and kind = 'image'
                ) as cluster_name,
                (select group_concat(tag, ', ') from tags where image_id = whole.id) as tags
            from (
                -- What is left of a path when all that is no slash is trimmed off its end.
                select *, rtrim(path, replace(path, '/', '')) as beside from (
                    select
                        images.id as id,
                        rtrim(roots.name, '/') || '/' || images.name as path,
                        size, width, height, format, taken_at, mtime_ns, exif
                    from images join roots on roots.id = root_id
                    where status = 'ok'
                )
            ) as whole;
        """
    )


@migrations()
def m003_first_encoder(db: sqlite_utils.Database) -> None:
    """Which encoder queries use where none is named; before, it was the one that came first."""
    db.execute("alter table encoders add column first integer not null default 0")


@migrations()
def m004_enrich(db: sqlite_utils.Database) -> None:
    """What enrichers found, and which pictures they have seen; words that can be searched."""
    db.executescript(
        """
        create table enrichers (
            id integer primary key,
            enricher_id text not null unique,
            stage text not null,
            info text not null             -- EnricherInfo as JSON
        );
        -- A picture that a stage has seen, even where it found nothing.
        create table enriched (
            image_id integer not null references images (id) on delete cascade,
            stage text not null,
            enricher integer not null references enrichers (id),
            primary key (image_id, stage)
        ) without rowid;
        create index enriched_by_stage on enriched (stage, enricher);
        alter table regions add column enricher integer references enrichers (id);
        alter table regions add column start real;     -- seconds from the beginning of a video
        alter table regions add column until real;
        alter table regions add column at real;        -- when the box was seen
        create index regions_by_label on regions (label) where label is not null;
        create index regions_of_parts on regions (kind, id) where kind <> 'image';
        alter table images add column duration real;   -- of a video, seconds
        create table text_lines (
            id integer primary key,
            image_id integer not null references images (id) on delete cascade,
            enricher integer not null references enrichers (id),
            x real not null, y real not null, w real not null, h real not null,
            quad text,                     -- JSON: x and y of four corners
            text text not null,
            confidence real not null,
            at real                        -- in a video: seconds from its beginning
        );
        create index text_lines_by_image on text_lines (image_id);
        -- Twice: words and their beginnings, and any three letters, for parts and misspellings.
        create virtual table text_words using fts5 (
            text, content = text_lines, content_rowid = id,
            tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
        );
        create virtual table text_trigrams using fts5 (
            text, content = text_lines, content_rowid = id,
            tokenize = 'trigram'
        );
        create trigger text_lines_added after insert on text_lines begin
            insert into text_words (rowid, text) values (new.id, new.text);
            insert into text_trigrams (rowid, text) values (new.id, new.text);
        end;
        create trigger text_lines_removed after delete on text_lines begin
            insert into text_words (text_words, rowid, text) values ('delete', old.id, old.text);
            insert into text_trigrams (text_trigrams, rowid, text)
                values ('delete', old.id, old.text);
        end;
        -- One picture may fail in several stages.
        create table failures_by_stage (
            path blob not null,            -- absolute, os.fsencode
            name text not null,
            stage text not null,
            reason text not null,
            run_id integer not null,
            primary key (path, stage)
        ) without rowid;
        insert into failures_by_stage select path, name, stage, reason, run_id from failures;
        drop table failures;
        alter table failures_by_stage rename to failures;
        drop view pictures;
        create view pictures as
            select
                id,
                path,
                case when beside = '/' then '/' else rtrim(beside, '/') end as folder,
                substr(path, length(beside) + 1) as name,
                size, width, height, format, taken_at,
                datetime(mtime_ns / 1000000000, 'unixepoch') as modified_at,
                exif,
                (
                    select number from regions join cluster_members on region_id = regions.id
                    where image_id = whole.id and kind = 'image'
                ) as cluster,
                (
                    select clusters.name from regions
                    join cluster_members on region_id = regions.id join clusters using (number)
                    where image_id = whole.id and kind = 'image'
                ) as cluster_name,
                (select group_concat(tag, ', ') from tags where image_id = whole.id) as tags,
                -- How many of what: {"dog": 2}. Where several enrichers look, the most one found.
                (
                    select json_group_object(label, most) from (
                        select label, max(found) as most from (
                            select label, count(*) as found from regions
                            where image_id = whole.id and label is not null
                            group by label, enricher
                        ) group by label
                    )
                ) as objects,
                (
                    select group_concat(text, char(10)) from text_lines where image_id = whole.id
                ) as words,
                duration
            from (
                -- What is left of a path when all that is no slash is trimmed off its end.
                select *, rtrim(path, replace(path, '/', '')) as beside from (
                    select
                        images.id as id,
                        rtrim(roots.name, '/') || '/' || images.name as path,
                        size, width, height, format, taken_at, mtime_ns, exif,
                        duration
                    from images join roots on roots.id = root_id
                    where status = 'ok'
                )
            ) as whole;
        """
    )
