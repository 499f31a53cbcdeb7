package ijson

import (
	"unicode/utf16"
	"unicode/utf8"
)

// text reads the string at d.at. One without escapes is a substring of the text.
func (d *Document) text() (string, error) {
	d.at++
	from := d.at
	for i := d.at + plainWords(d.s[d.at:]); i < len(d.s); i++ {
		switch c := d.s[i]; {
		case c == '"':
			d.at = i + 1
			return d.s[from:i], nil
		case c == '\\':
			d.at = i
			return d.escaped(from)
		case c < 0x20:
			d.at = i
			return "", d.syntax()
		}
	}
	d.at = len(d.s)
	return "", d.syntax()
}

// plainWords is the length of the beginning of s, in whole words of 8 bytes, that holds no quote, backslash or control character. It looks at a
// word at once: most of an event is text.
func plainWords(s string) (n int) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; n+8 <= len(s); n += 8 {
		b := s[n : n+8]
		w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		quote, slash := w^('"'*ones), w^('\\'*ones)
		// The high bit of a byte is set where the byte is 0 (of quote, slash) or below 0x20 (of w); sometimes of a later byte too.
		if ((quote-ones)&^quote|(slash-ones)&^slash|(w-0x20*ones)&^w)&highs != 0 {
			break
		}
	}
	return n
}

// escaped reads the rest of a string that began at from and has its first escape at d.at.
func (d *Document) escaped(from int) (string, error) {
	buf := append(d.buf[:0], d.s[from:d.at]...)
	for d.at < len(d.s) {
		c := d.s[d.at]
		switch {
		case c == '"':
			d.at++
			d.buf = buf
			return string(buf), nil
		case c < 0x20:
			return "", d.syntax()
		case c != '\\':
			buf = append(buf, c)
			d.at++
		default:
			var ok bool
			if buf, ok = d.escape(buf); !ok {
				return "", d.syntax()
			}
		}
	}
	return "", d.syntax()
}

// escape appends what the escape at d.at stands for.
func (d *Document) escape(buf []byte) ([]byte, bool) {
	if d.at+1 >= len(d.s) {
		return nil, false
	}
	c := d.s[d.at+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r, ok := d.hex(d.at)
		if !ok {
			return nil, false
		}
		d.at += 6
		if utf16.IsSurrogate(r) {
			r = d.pair(r)
		}
		return utf8.AppendRune(buf, r), true
	default:
		return nil, false
	}
	d.at += 2
	return append(buf, c), true
}

// pair is the character of a surrogate pair whose first half was just read. A lone half becomes U+FFFD: browsers cut texts in the
// middle of a character, and the event is worth keeping.
func (d *Document) pair(first rune) rune {
	if d.at < len(d.s) && d.s[d.at] == '\\' {
		if second, ok := d.hex(d.at); ok {
			if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
				d.at += 6
				return r
			}
		}
	}
	return utf8.RuneError
}

// hex reads \uXXXX at i.
func (d *Document) hex(i int) (rune, bool) {
	if i+6 > len(d.s) || d.s[i+1] != 'u' {
		return 0, false
	}
	r := rune(0)
	for _, c := range []byte(d.s[i+2 : i+6]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
