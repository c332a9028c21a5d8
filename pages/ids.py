"""Every id a page, a key, a style or a test refers to, in one place.

Ids of parts that JavaScript draws are listed as comments: they are made from these.
"""

HEADER = "header"  # h1, links to the pages, #model-status
MODEL_STATUS = "model-status"
PROMPT = "prompt"  # textarea inside
OPENINGS = "openings"  # buttons .opening
ADDRESS = "address"  # nothing to be seen
SETTINGS = "settings"  # #settings-seed, -lock, -new-seed, -max_new_tokens, -temperature, -top_k, -top_p, -columns, -base_lm
GENERATE = "generate"
STOP = "stop"
RUN_AGAIN = "run-again"
STATUS = "status"  # the one live region
COLOUR = "colour"  # #colour-channel, #colour-measure, .legend
LINE_UP = "line-up-bar"  # #line-up, #line-up-title, -save, -export, -open, -delete
COPIED = "copied"  # nothing to be seen
COLUMNS = "columns"  # the strip of columns
INSPECTOR = "inspector"  # #inspector-sentence, table, .branch (one a candidate), #inspector-close
CURVE = "reward-curve"
CURVE_BRIDGE = "curve-bridge"
VOTE = "vote"  # #vote-A … #vote-L, #vote-tie, #vote-all_bad, #vote-skip, #vote-undo, #vote-note, #vote-go-on, #copy-link, #copy-as, #export
EXPORT_FILE = "export-file"
TIMER = "model-timer"
SWEEP = "sweep"  # hidden until #sweep-this is pressed
SWEEP_PANEL = "sweep-panel"  # #sweep-weights, -seeds, -start, -stop, -close, -state, -slider, -seed, -csv, -png, -command; .sweep-text, .use-weight
SWEEP_CURVES = "sweep-curves"

# Annotate
ANNOTATE = "annotate"  # #say-1 … #say-4, #say-tie, -all_bad, -skip, -undo, -broken; #said, #ann-progress, .ann-answer, #consent, #nickname
PAIR_FEED = "pair-feed"  # nothing to be seen
TASK_FORM = "task-form"  # #task-title, -prompts, -line-up, …, #task-start, #task-list

# Sweep
GRID_EDITOR = "grid-editor"
GRID_FORM = "grid-form"  # #grid-source, -file, -limit, -base_lm, -judge, -seeds, -name, -add-row, -command; #grid-A-method, -<parameter>, …
GRID_PROMPTS = "grid-prompts"
GRID_START = "grid-start"
GRID_PLAN = "grid-plan"  # how many answers, and how long
SWEEP_LIST = "sweep-list"  # #new-sweep, buttons .job with data-name and data-state
SWEEP_OPEN = "sweep-open"
SWEEP_HEAD = "sweep-head"  # #sweep-state, #stop-sweep, #resume-sweep, #edit-sweep, #sweep-form, #save-sweep, #sweep-error
SWEEP_FRONTIER = "sweep-frontier"
SWEEP_ANSWERS = "sweep-answers"  # #answers-order, .sweep-answer
SWEEP_TABLES = "sweep-tables"  # #sweep-table, #heat-measure, .heat
SWEEP_MATCHED = "sweep-matched"  # #matched-kl, #matched-minus, #matched-start, #matched-table
SWEEP_STATUS = "sweep-status"
SWEEP_FILE = "sweep-file"  # nothing to be seen
SWEEP_HTML = "sweep-html"
SWEEP_COMMAND = "sweep-command-text"

# Train
TRAIN_FORM = "train-form"  # #train-source, -path, -file, -upload, -start-model, -name, -more, and #train-<option>
TRAIN_START = "train-start"
TRAIN_LOOK = "train-look"
TRAIN_STATUS = "train-status"
DATA_VIEW = "data-view"  # #data-facts
JOB_LIST = "job-list"  # buttons .job with data-job and data-state
JOB_VIEW = "job-view"  # #job-state, #job-cancel, #job-resume, #job-error, #job-log, #try-in-compare
TRAINING_CURVE = "training-curve"
REPORT = "report"  # #verdict, #verdict-sentence, #report-facts, #calibration-table
LENGTHS = "lengths"  # #accuracy-table
ACCURACY = "accuracy-plot"

# Models
ADD_FORM = "add-form"  # #add-place, #add-kind, #add-model, #add-note
MADE_FORM = "made-form"  # #made-kind, #made-name, #made-<field>, #made-try-prompt, #made-try-response, #try-reward, #make-reward, #made-note
MODEL_LIST = "model-list"  # buttons .model with data-model
MODEL_CARD = "model-card"  # #card-facts, #delete-model, #delete-sure, #delete-not, #model-examine
MODEL_REPORT = "model-report"
MODEL_LENGTHS = "model-lengths"
MODEL_ACCURACY = "model-accuracy-plot"

# Examine
EXAMINE = "examine"
EXAMINE_FORM = "examine-form"  # #examine-models, -source, -path, -file, -upload, -prompt, -chosen, -rejected, -limit, -judge, -beta
EXAMINE_START = "examine-start"
EXAMINE_STOP = "examine-stop"
EXAMINE_STATUS = "examine-status"
EXAMINE_PLOT = "examine-plot"
EXAMINE_TABLE = "examine-table"  # #examine-figures, #examine-format, #examine-save
EXAMINE_FILE = "examine-file-out"  # nothing to be seen
PAIR_VIEW = "pair-view"  # #pair-chosen and #pair-rejected, token views
PAIR_BAR = "pair-bar"  # #pair-number, #pair-model, #pair-channel, #pair-next
PAIR_CURVES = "pair-curves"

# Results
RESULTS = "results"  # #results-by, -length, -format, -table, -save, #leaderboard, #results-facts, #against-people; .reward-model; .disagreement
RESULTS_STATUS = "results-status"
RESULTS_FILE = "results-file"  # nothing to be seen

BY_HAND = "choices"

# Data
EXCHANGE = "exchange"  # #import, #import-path, -upload, -columns, -ties, -store, -note; #export-panel, #export-formats, -types, -write
EXPORT_FOLDER = "export-folder"
DATA_FILE = "data-file"
INSPECTED = "inspected"  # #inspected-open, #inspected-html, buttons .exclude and .include with data-vote and data-rejected

# History, a drawer on Compare and the list on Data
HISTORY = "history"  # #history-search, -method, -model, -voted, -since, -until; links with data-comparison
COMPARISONS = "comparisons"  # the same inside

# Help, and the foot of every page
HELP = "help"  # #methods, #rewards, #objectives, #glossary, #keys, and #methods-<key> and so on
TOY = "toy"  # #theory, #toy-now, #toy-loss, #toy-<prefix>
FOOT = "foot"
VOTES_COPIED = "votes-copied"  # in it, on a server; above the page, where votes are not safe, #server-notice
SIGN_IN = "sign-in"


def column(name: str) -> str:
    """The column of that letter: #column-A."""
    return f"column-{name}"


def column_settings(name: str) -> str:
    """Its method and parameters: #settings-A; inside #settings-A-method, -reward_model, -<role>, -<parameter>, -duplicate, -all-<parameter>."""
    return f"settings-{name}"


def view(name: str) -> str:
    """Its text: #view-A; inside .prompt, .tokens (spans .tok), .facts."""
    return f"view-{name}"
