package evidence_test

// The leaves of TestLeafVectors.
const (
	vectorZero = "YT9GbAFV27CaeuIdB9m/uWt5IMLx8N+dGACWdCTzvGo="
	vectorBoth = "4+HItjbn197Geo2tHTymX7xY5iyfUwIdZfa9ck7zCCc="
	vectorCore = "HghZt8fTzdfSnQlsys0mJYhV+JXPDEypTQu2O5SF6f0="
)
