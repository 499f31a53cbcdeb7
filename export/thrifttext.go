package export

import "encoding/binary"

// thriftText walks a value of Thrift's compact protocol without building it, so that no count in it can ask for memory.
// (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md)
type thriftText struct {
	rest  []byte
	items int // how many list items, map entries and strings are still allowed
}

// The types of the compact protocol.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

func (t *thriftText) byte() (byte, error) {
	if len(t.rest) == 0 {
		return 0, errGuard
	}
	b := t.rest[0]
	t.rest = t.rest[1:]
	return b, nil
}

func (t *thriftText) varint() (uint64, error) {
	v, n := binary.Uvarint(t.rest)
	if n <= 0 {
		return 0, errGuard
	}
	t.rest = t.rest[n:]
	return v, nil
}

func (t *thriftText) skip(n uint64) error {
	if n > uint64(len(t.rest)) {
		return errGuard
	}
	t.rest = t.rest[n:]
	return nil
}

// structure walks the fields of a struct to its end.
func (t *thriftText) structure(depth int) error {
	if depth == 0 {
		return errGuard
	}
	for {
		head, err := t.byte()
		if err != nil {
			return err
		}
		kind := head & 0x0f
		if kind == 0 {
			return nil
		}
		if head>>4 == 0 { // the field's number stands by itself
			if _, err := t.varint(); err != nil {
				return err
			}
		}
		if kind == thriftTrue || kind == thriftFalse {
			continue // the type is the value
		}
		if err := t.value(kind, depth); err != nil {
			return err
		}
	}
}

func (t *thriftText) value(kind byte, depth int) error {
	switch kind {
	case thriftTrue, thriftFalse, thriftByte:
		return t.skip(1)
	case thriftI16, thriftI32, thriftI64:
		_, err := t.varint()
		return err
	case thriftDouble:
		return t.skip(8)
	case thriftBinary:
		n, err := t.varint()
		if err != nil || t.take(1) != nil {
			return errGuard
		}
		return t.skip(n)
	case thriftList, thriftSet:
		return t.list(depth)
	case thriftStruct:
		return t.structure(depth - 1)
	}
	return errGuard // maps do not occur in Parquet's metadata
}

func (t *thriftText) list(depth int) error {
	head, err := t.byte()
	if err != nil || depth == 0 {
		return errGuard
	}
	n := uint64(head >> 4)
	if n == 15 {
		if n, err = t.varint(); err != nil {
			return err
		}
	}
	if err := t.take(n); err != nil {
		return err
	}
	for range n {
		if err := t.value(head&0x0f, depth-1); err != nil {
			return err
		}
	}
	return nil
}

func (t *thriftText) take(n uint64) error {
	if n > uint64(t.items) {
		return errGuard
	}
	t.items -= int(n)
	return nil
}
