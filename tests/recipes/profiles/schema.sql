CREATE TABLE users (
  id           uuid PRIMARY KEY,
  display_name text NOT NULL,
  county       text,
  languages    text[] NOT NULL DEFAULT '{}',
  interests    jsonb NOT NULL DEFAULT '[]',
  last_login   timestamptz
);

CREATE TABLE user_preferences (
  user_id       uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
  theme         text NOT NULL DEFAULT 'light',
  notifications boolean NOT NULL DEFAULT true
);

CREATE TABLE user_achievements (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  badge      text NOT NULL,
  awarded_at timestamptz NOT NULL DEFAULT now()
);
