package pseudonymize

import (
	"fmt"
	"io"
)

// Format hides the event whatever the verb: it holds its subjects' keys, which fmt would print through unexported fields.
func (Event) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[event]") }
