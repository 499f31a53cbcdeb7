package journey

import "time"

// The reports.
const (
	ReportKPIs        = "kpis"
	ReportMap         = "map"
	ReportFlow        = "flow"
	ReportFunnel      = "funnel"
	ReportAttribution = "attribution"
	ReportChannels    = "channels"
	ReportCoverage    = "coverage"
)

// Reports lists the reports, in the order in which they explain each other.
func Reports() []string {
	return []string{ReportKPIs, ReportMap, ReportFlow, ReportFunnel, ReportAttribution, ReportChannels, ReportCoverage}
}

// The units of numbers. An amount's unit is its currency's minor one, and a share has none.
const (
	UnitSubjects   = "subjects"
	UnitSessions   = "sessions"
	UnitJourneys   = "journeys"
	UnitEvents     = "events"
	UnitCarts      = "carts"
	UnitMinor      = "minor"
	UnitShare      = "share"
	UnitSeconds    = "seconds"
	UnitEdges      = "edges" // of journeys: one channel directly after another
	UnitPerSubject = "purchases_per_subject"
)

// AllOther stands in lists beside channels and stages for the sum of those that are not shown. OtherChannel of policies is a channel like any.
const AllOther = allOther

// The ends of a journey stand among the nodes of a flow.
const (
	NodeStart      = nodeStart
	NodeConversion = nodeConversion
	NodeNoFurther  = nodeNull
)

// Answer is a released report: what the API answers and the console shows. A pointer that is nil, like a null in JSON, is a number that may not be said,
// which is not the same as zero. One of the reports is set, unless the answer is withheld.
type Answer struct {
	Report  string  `json:"report"`
	Period  Period  `json:"period"`
	Site    string  `json:"site"`
	Segment string  `json:"segment"` // "name=value"; empty: everybody
	Unit    string  `json:"unit"`    // what the report counts first
	K       int64   `json:"k"`       // distinct subjects below which nothing is said
	Epsilon float64 `json:"epsilon"` // privacy budget spent: 0, there is no noise

	Coverage   *Consented `json:"consent_coverage"` // of the site in the period; nil: nothing was counted
	Suppressed Mass       `json:"suppressed"`
	Withheld   bool       `json:"withheld"` // too few subjects to say anything

	KPIs        []Figure     `json:"kpis,omitempty"`
	Map         *Map         `json:"map,omitempty"`
	Flow        *Flow        `json:"flow,omitempty"`
	Funnel      *Funnel      `json:"funnel,omitempty"`
	Attribution *Attribution `json:"attribution,omitempty"`
	Channels    *Channels    `json:"channels,omitempty"`
	ByPurpose   []Covering   `json:"coverage,omitempty"`
}

// Period is one of the grid in the site's zone. Of an open one the numbers still move, also down: who is erased is subtracted.
type Period struct {
	Name string    `json:"name"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"` // exclusive
	Open bool      `json:"open"`
}

// Consented is how much of what was sent a consent or another ground let in, rounded.
type Consented struct {
	Accepted int64   `json:"accepted"`
	Refused  int64   `json:"refused"`
	Share    float64 `json:"share"`
}

// Mass is how much of a report is in sums of what is hidden.
type Mass struct {
	Count int64    `json:"count"`
	Unit  string   `json:"unit"`
	Share *float64 `json:"share"` // of all; nil: of nothing
}

// Figure is one number: a count of its unit, an amount in minor units of its currency, or a share.
type Figure struct {
	Name     string   `json:"name"`
	Unit     string   `json:"unit"`
	Currency string   `json:"currency,omitempty"`
	Count    *int64   `json:"count,omitempty"`
	Share    *float64 `json:"share,omitempty"`
}

// Map is stage by channel; every column sums to its events.
type Map struct {
	Events int64    `json:"events"`
	Stages []Column `json:"stages"` // in the policy's order
	Other  int64    `json:"other"`  // events of stages that are not shown
}

// Column is a stage.
type Column struct {
	Stage    string    `json:"stage"`
	Events   int64     `json:"events"`
	Channels []Channel `json:"channels"` // by events, most first
	Other    int64     `json:"other"`    // events by channels that are not shown
}

// Channel is a channel with its count, in the unit of where it stands.
type Channel struct {
	Channel string `json:"channel"`
	Count   int64  `json:"count"`
}

// Flow is the graph of what directly follows what, repeats collapsed. Every node's edges sum, in and out, with AllOther among the nodes.
type Flow struct {
	Journeys    int64     `json:"journeys"`
	Conversions int64     `json:"conversions"`
	NoFurther   int64     `json:"no_further_action"`
	Edges       []Arc     `json:"edges"`
	Truth       *Decisive `json:"moment_of_truth"`
}

// Arc is an edge; From and To are channels, AllOther, or the ends of a journey in parentheses.
type Arc struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Count int64  `json:"count"`
}

// Decisive is the channel after which the probability of converting moves most.
type Decisive struct {
	Channel string  `json:"channel"`
	Weight  float64 `json:"weight"`
}

// Funnel counts subjects by the steps they took, in order and within the window.
type Funnel struct {
	WindowDays int        `json:"window_days"`
	Steps      []Step     `json:"steps"`
	Times      []Duration `json:"time_to_convert"` // from the first step to the last
	Carts      Carts      `json:"carts"`
}

// Step is one step of a funnel.
type Step struct {
	Name       string   `json:"name"`
	Subjects   *int64   `json:"subjects"`
	OfFirst    *float64 `json:"of_first"`
	OfPrevious *float64 `json:"of_previous"`
	Dropped    *int64   `json:"dropped"`  // subjects who came to this step and not to the next
	Drop       bool     `json:"drop_off"` // more are lost here than in the period before, beyond chance (Wilson, 95 %)
}

// Duration counts subjects who took at least From and less than To minutes.
type Duration struct {
	From     int64 `json:"from_minutes"`
	To       int64 `json:"to_minutes"`
	Subjects int64 `json:"subjects"`
}

// Carts are what became of carts.
type Carts struct {
	Opened      *int64    `json:"opened"`
	Followed    *int64    `json:"followed"` // by a purchase in the period, within 7 days
	Abandonment *float64  `json:"abandonment"`
	Recovered   *int64    `json:"recovered"` // by a purchase in the period, within 30 days
	Back        []Channel `json:"back"`      // by which channel
}

// Attribution sets the models side by side.
type Attribution struct {
	Conversions int64   `json:"conversions"`
	Models      []Model `json:"models"`
}

// Model is one rule, with the credit of each channel. Credits sum to conversions and amounts to their whole, with AllOther.
type Model struct {
	Name    string   `json:"name"`
	Credits []Credit `json:"credits"` // null: may not be said
	Amounts []Amount `json:"amounts"`
}

// Credit is a channel's part of the conversions, in hundredths of one where the model is Markov's, else in whole ones.
type Credit struct {
	Channel     string   `json:"channel"`
	Conversions float64  `json:"conversions"`
	Share       float64  `json:"share"`
	Removal     *float64 `json:"removal_effect,omitempty"` // of Markov
}

// Amount is a channel's part of what conversions brought.
type Amount struct {
	Channel  string `json:"channel"`
	Currency string `json:"currency"`
	Minor    int64  `json:"minor"`
}

// Channels are the channels, what leads from one to another, and what differs by their number.
type Channels struct {
	Channels    []Role    `json:"channels"`
	Transitions []Shift   `json:"transitions"`
	Breadth     []Breadth `json:"breadth"`
	Omnichannel *float64  `json:"omnichannel"` // share of subjects who used three channels or more
}

// Role is a channel's reach and its part in converting journeys, as shares of these.
type Role struct {
	Channel  string   `json:"channel"`
	Subjects *int64   `json:"subjects"`
	Opener   *float64 `json:"opener"`
	Assist   *float64 `json:"assist"`
	Closer   *float64 `json:"closer"`
}

// Shift is a change of channel inside journeys, with its share of all changes from there.
type Shift struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	Count int64   `json:"count"`
	Share float64 `json:"share"`
}

// Breadth is a class of subjects by the number of channels that they used.
type Breadth struct {
	Channels  string   `json:"channels"` // "1", "2", "3-4", "5+"
	Subjects  int64    `json:"subjects"`
	Purchases *int64   `json:"purchases"`
	Frequency *float64 `json:"frequency"`     // purchases a subject
	Seconds   *int64   `json:"mean_duration"` // of converting journeys
	Amounts   []Basket `json:"amounts"`
}

// Basket is what a class bought in one currency.
type Basket struct {
	Currency string `json:"currency"`
	Minor    int64  `json:"minor"`
	Mean     int64  `json:"mean_minor"` // a purchase
}

// Covering is how much of a channel's events a ground of one purpose let in, rounded.
type Covering struct {
	Channel string `json:"channel"`
	Purpose string `json:"purpose"`
	Consented
}
