package pseudonymize

// Encode is the event as it is sealed for the spool.
func (e *Event) Encode() []byte { return e.encode(nil) }
