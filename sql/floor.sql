-- What retention may have deleted, for a page that was read without it (first.sql). Read after that page: the floor only rises, and rises with what
-- is deleted, so whatever the page lacks is in it.
SELECT snap::text FROM pgevict.floor
