-- A view on a folder that octroi-load fills. Run in the folder's parent: duckdb -init duckdb.sql
CREATE OR REPLACE VIEW events AS
SELECT * FROM read_parquet('loaded/events/*/*/*.parquet', hive_partitioning = true);

-- Events that may be used for one purpose. Begin every report with this: the grant is part of the question.
CREATE OR REPLACE MACRO events_for(wanted) AS TABLE
SELECT * FROM events WHERE list_contains(list_transform(grants, g -> g.purpose), wanted);

-- Revenue by month, in minor units: integers, so that no cent is lost.
SELECT date_trunc('month', time) AS month, currency, sum(value_minor) AS minor, count(*) AS purchases
FROM events_for('audience') WHERE type IN ('purchase', 'store_purchase') GROUP BY ALL ORDER BY ALL;

-- A property.
SELECT properties['url'] AS url, count(*) AS views FROM events_for('audience') WHERE type = 'page_view' GROUP BY ALL ORDER BY views DESC LIMIT 20;
