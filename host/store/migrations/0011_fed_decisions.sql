-- Which worker of a feed a block of decisions came from, as `FEED/WORKER`: what is sent again is known by that. The blocks of
-- this host itself have none, so they are not in the index and none of its writes is slower for it.
ALTER TABLE decision_block ADD COLUMN source TEXT;
CREATE INDEX decision_block_by_source ON decision_block (source, last, first) WHERE source IS NOT NULL;
