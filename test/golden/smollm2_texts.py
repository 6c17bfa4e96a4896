"""Texts for smollm2.py, written for this project: prose of several kinds to score, and word problems in the manner of GSM8K."""

# Long enough for 64 tokens after the first. Digits, code, quotes, another language and a chat, because tokenizers differ there.
TEXTS = [
    "The river had been low all summer, and when the rain finally came it came all at once. By noon the footbridge was under water, the "
    "baker had moved his flour to the attic, and the schoolchildren were told to go home by the upper road. Nobody was surprised except the mayor, who "
    "had promised a dry autumn and a new bridge by Easter.",
    "def running_mean(values):\n    total = 0.0\n    means = []\n    for count, value in enumerate(values, start=1):\n        total += value\n        "
    "means.append(total / count)\n    return means\n\nprint(running_mean([3, 1, 4, 1, 5, 9]))  # 3.0, 2.0, 2.67, 2.25, 2.8, 3.83",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nWhat is the capital of "
    "Portugal, and which river runs past it?<|im_end|>\n<|im_start|>assistant\nThe capital of Portugal is Lisbon. It lies on the northern bank of the "
    "Tagus, close to where the river meets the Atlantic Ocean.<|im_end|>\n",
    "Im Jahr 1984 kostete ein Brot 2,40 Mark; 2019 waren es 3,15 Euro. Wie viel Prozent mehr ist das, wenn 1 Euro 1,95583 Mark sind? Die Antwort "
    "steht auf Seite 127, gleich unter der Tabelle mit den Preisen von 1950 bis 2020.",
    "\u201cYou can\u2019t be serious,\u201d said Ines \u2014 and yet the figures were plain: 12,480 tickets sold, 9,375 scanned at the gate, 3,105 missing. "
    "She counted again; x\u00b2 + y\u00b2 = z\u00b2 was simpler than this. \u4f60\u597d, caf\u00e9, na\u00efve, \U0001f682\U0001f682 and so on, until the last train left at 23:59.",
]

# question, worked solution with the answer after ####
PROBLEMS = [
    (
        "Mira packs 14 boxes of apples every morning and 9 every afternoon. Each box holds 24 apples. How many apples does she pack in 5 days?",
        "Each day Mira packs 14 + 9 = 23 boxes.\nIn 5 days that is 23 * 5 = 115 boxes.\nShe packs 115 * 24 = 2760 apples.\n#### 2760",
    ),
    (
        "A bus ticket costs $3. A weekly pass costs $21. Jonas rides the bus twice a day on 6 days of the week. How much does he save with the weekly pass?",
        "Jonas rides 2 * 6 = 12 times a week.\nSingle tickets would cost 12 * 3 = $36.\nWith the pass he saves 36 - 21 = $15.\n#### 15",
    ),
    (
        "Lena reads 18 pages an hour. Her book has 324 pages and she has already read a third of it. How many hours does she still need?",
        "She has read 324 / 3 = 108 pages.\n324 - 108 = 216 pages are left.\nThat takes 216 / 18 = 12 hours.\n#### 12",
    ),
    (
        "A tank holds 500 litres. One tap fills it with 40 litres a minute while a leak loses 15 litres a minute. How many minutes until it is full?",
        "Each minute the tank gains 40 - 15 = 25 litres.\nIt is full after 500 / 25 = 20 minutes.\n#### 20",
    ),
    (
        "Omar has twice as many marbles as Kim. Kim has 7 more than Sam, who has 16. How many marbles do the three have together?",
        "Kim has 16 + 7 = 23 marbles.\nOmar has 2 * 23 = 46 marbles.\nTogether they have 16 + 23 + 46 = 85 marbles.\n#### 85",
    ),
    (
        "A baker uses 250 grams of flour for each loaf. He has 12 kilograms and keeps a quarter of it for cakes. How many loaves can he bake?",
        "12 kilograms are 12000 grams.\nHe keeps 12000 / 4 = 3000 grams, so 9000 grams are left.\nThat makes 9000 / 250 = 36 loaves.\n#### 36",
    ),
    (
        "Tickets cost $8 for adults and $5 for children. A group of 30 people paid $192. How many of them were adults?",
        "If all were children they would have paid 30 * 5 = $150.\nThe difference is 192 - 150 = $42.\nEach adult adds 8 - 5 = $3.\nSo there were 42 / 3 = 14 adults.\n#### 14",
    ),
    (
        "A train leaves at 9:15 and arrives at 13:45 after stops that take 30 minutes in all. While moving it averages 90 km an hour. How long is the route?",
        "From 9:15 to 13:45 it is 4.5 hours.\nWithout stops it moves 4.5 - 0.5 = 4 hours.\nThe route is 4 * 90 = 360 km.\n#### 360",
    ),
]
