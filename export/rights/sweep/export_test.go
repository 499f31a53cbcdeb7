package sweep

// What the tests of this package look into.
var (
	DestinationOf = destinationOf
	Statement     = statement
	GenerationOf  = generationOf
	KeyOf         = keyOf
	Before        = before
	JournalKey    = (*Sweep).checkJournal
)

// Prefix is the prefix that a statement gives the batch's names.
func (st stated) Prefix() (string, int) { return st.prefix, st.generation }
