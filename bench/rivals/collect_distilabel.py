"""The collection benchmark's requests by distilabel: batches of as many rows as may be under way. Prints the wall time as JSON."""

import json
import sys
import time

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    options = json.loads(sys.argv[1])
    rows = [{"instruction": f"What is {index} + 1?\n\nEnd with #### and the number."} for index in range(options["count"])]
    with Pipeline(name="collect", cache_dir=options.get("cacheFolder")) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=options["concurrency"])
        llm = OpenAILLM(
            model="big",
            base_url=options["baseUrl"],
            api_key="none",
            generation_kwargs={"max_new_tokens": 512, "temperature": 0.5},
        )
        load >> TextGeneration(llm=llm, input_batch_size=options["concurrency"])
    started = time.perf_counter()
    distiset = pipeline.run(use_cache=False)
    seconds = time.perf_counter() - started
    kept = sum(1 for row in distiset["default"]["train"] if row["generation"])
    if kept != options["count"]:
        raise SystemExit(f"{kept} of {options['count']} answers came")
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
