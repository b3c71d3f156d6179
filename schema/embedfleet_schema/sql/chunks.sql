-- name: in_newest
-- A part of other statements: whether a chunk `c` belongs to the newest version of its document `d`. It
-- came with that version, or stayed as it was when that came.
(c.version = d.version OR c.id <@ d.kept)

-- name: in_live
-- The same of the version that readers see; the view of a collection and its policies ask so too (see
-- migration 0026).
(c.version = d.live_version OR c.id <@ d.live_kept)
