package evidence

// Seams for the tests of this package.
var (
	ParseCheckpoint = parseCheckpoint
	ParseBundle     = parseBundle
	AppendBundle    = appendBundle
	ParseOpening    = parseOpening
	WriteOpening    = writeOpening
)

// Text is the body of a checkpoint's note.
func (c Checkpoint) Text() string { return c.text() }

// Sign signs any text as a note, as only the holder of the log's key could.
func (s *Signer) Sign(text string) (string, error) { return s.sign(text) }
