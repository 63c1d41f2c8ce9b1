-- The table of scan results, as a JDBC sink fills it: PostgreSQL, rows of kafka.result_format = "connect-json". See docs/migrate.md.
CREATE TABLE scan_results (
  scan_id          uuid PRIMARY KEY,
  status           text NOT NULL,
  threat_detected  boolean NOT NULL,
  threat_name      text,
  threat_type      text,
  severity         text NOT NULL,
  patterns_found   jsonb NOT NULL,
  clamav_result    text,
  timestamp        timestamptz NOT NULL,
  processed_at     timestamptz NOT NULL,
  source_ip        text,
  source_host      text,
  source_port      text,
  facility         text,
  priority         text,
  level            text,
  program          text,
  pid              text,
  message          text,
  raw_message      text
);
