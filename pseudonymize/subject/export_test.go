package subject

// Value is the normalised text, which no other code can see.
func Value(id Identifier) string { return id.value }

// Bytes are a tag's bytes, which print as "[tag]".
func Bytes(tag Tag) []byte { return tag[:] }

// WithKey is a subject of a known key.
func WithKey(slot Slot, kind Kind, key [32]byte) Subject { return Subject{slot, kind, key} }

// ForTags is a registry that can only compute tags.
func ForTags(lookupKey [32]byte) *Registry { return &Registry{tagger: newTagger(&lookupKey)} }

// OverwriteOnly is Overwrite without its note's removal, as a crash may leave it.
func (r *Registry) OverwriteOnly(s Subject) error { return r.slots.shred(s.slot) }

// Claims are the stored tags of a subject.
func Claims(g getter, s Subject) (tags []Tag, err error) {
	claims, err := readClaims(g, s)
	for _, c := range claims {
		tags = append(tags, c.tag)
	}
	return tags, err
}

// ForgetTags empties the memory of tags, so that the next lookups read state.
func (r *Registry) ForgetTags() { r.tags = newTagTable(0) }

// FillTag does what a reader does who read a tag's row long ago.
func (r *Registry) FillTag(tag Tag, slot Slot) { r.tags.fill(tag, slot) }

// Rekey replaces the key in an encoded slot and makes the checksum fit.
func Rekey(b []byte, s Subject, key [32]byte) { encodeSlot(b, s.slot, s.kind, &key) }

// OffsetOf is where a slot stands in the file.
func OffsetOf(slot Slot) int64 { return slotOffset(slot) }

// KeyOf is a subject's key.
func KeyOf(s Subject) [32]byte { return s.key }

// Remnant is what is remembered of a tag.
func (r *Registry) Remnant(tag Tag) Remnant { return r.remnant(tag) }
