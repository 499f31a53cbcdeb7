package console

import (
	"slices"

	"github.com/octroi/octroi/export/journey"
)

// The pictures are made of what the tables beside them say, and of nothing else. Lengths are in units of the SVG's own view box.

// columns is the journey map: a column a stage, a block a channel, as high as its events.
type columns struct {
	Width, Tall int
	Columns     []column
}

type column struct {
	X, Width, Middle int
	Stage            string
	Events           int64
	Top              float64 // of the column
	Blocks           []block
}

type block struct {
	Channel    string // journey.AllOther: those that are not shown
	Events     int64
	Share      float64 // of the column
	Y, Height  float64
	TextY      float64
	Named      bool // there is room for its name
	Kind       int  // place in the legend, from 0
	X, Width   int
	TextMiddle int
}

// The measures of the map.
const (
	mapHeight   = 300
	columnWidth = 120
	columnGap   = 24
	leastNamed  = 14.0 // height of a block that can bear a name
)

// drawMap places the blocks. kinds gives each channel its colour, the same in every column.
func drawMap(m *journey.Map) columns {
	picture := columns{Width: max(1, len(m.Stages))*(columnWidth+columnGap) - columnGap, Tall: mapHeight + 60}
	kinds := channelKinds(m)
	var tallest int64 = 1
	for _, c := range m.Stages {
		tallest = max(tallest, c.Events)
	}
	for i, stage := range m.Stages {
		x := i * (columnWidth + columnGap)
		c := column{X: x, Width: columnWidth, Middle: x + columnWidth/2, Stage: stage.Stage, Events: stage.Events, Top: mapHeight}
		parts := stage.Channels
		if stage.Other > 0 {
			parts = append(slices.Clone(parts), journey.Channel{Channel: journey.AllOther, Count: stage.Other})
		}
		for _, part := range parts {
			height := float64(mapHeight) * float64(part.Count) / float64(tallest)
			c.Top -= height
			c.Blocks = append(c.Blocks, block{
				Channel: part.Channel, Events: part.Count, Share: ratio(part.Count, stage.Events), Y: c.Top, Height: height, TextY: c.Top + height/2,
				Named: height >= leastNamed, Kind: kinds[part.Channel], X: x, Width: columnWidth, TextMiddle: c.Middle,
			})
		}
		picture.Columns = append(picture.Columns, c)
	}
	return picture
}

// palette is how many colours there are for channels; beyond it they are used again, and names and tables tell.
const palette = 10

// channelKinds numbers the channels by name, so that one has its colour on every page.
func channelKinds(m *journey.Map) map[string]int {
	var names []string
	for _, c := range m.Stages {
		for _, x := range c.Channels {
			names = append(names, x.Channel)
		}
	}
	slices.Sort(names)
	kinds := map[string]int{}
	for i, name := range slices.Compact(names) {
		kinds[name] = i % palette
	}
	kinds[journey.AllOther] = palette
	return kinds
}

func ratio(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// sankey is the flow as two columns: what was, and what directly followed. A channel stands in both, so there is no circle.
type sankey struct {
	Label string       `json:"label"`
	Nodes []sankeyNode `json:"nodes"`
	Links []sankeyLink `json:"links"`
}

type sankeyNode struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	Kind  string `json:"kind"` // start | channel | conversion | null | rest
}

type sankeyLink struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Value  int64  `json:"value"`
	Text   string `json:"text"`
}

// drawFlow makes the graph of a flow, in the words of a language.
func drawFlow(f *journey.Flow, w *words, label string) sankey {
	s := sankey{Label: label, Nodes: []sankeyNode{}, Links: []sankeyLink{}}
	known := map[string]bool{}
	node := func(side, name string) string {
		id := side + name
		if !known[id] {
			known[id] = true
			s.Nodes = append(s.Nodes, sankeyNode{id, w.Of("channels", name), kindOf(name)})
		}
		return id
	}
	for _, e := range f.Edges {
		s.Links = append(s.Links, sankeyLink{node("from ", e.From), node("to ", e.To), e.Count, w.Number(e.Count)})
	}
	return s
}

// The ends of a journey, as flows name them beside channels.
const (
	flowStart      = "(start)"
	flowConversion = "(conversion)"
	flowNull       = "(no_further_action)"
)

func kindOf(name string) string {
	switch name {
	case flowStart:
		return "start"
	case flowConversion:
		return "conversion"
	case flowNull:
		return "null"
	case journey.AllOther:
		return "rest"
	}
	return "channel"
}
