package policies

// Reveals ranks a treatment by how much of a field it lets through: 0 for Drop and for what is not a treatment.
func (t Treatment) Reveals() int {
	switch t {
	case TruncateIP, UAFamily:
		return 1
	case URLPath:
		return 2
	case Keep:
		return 3
	}
	return 0
}
