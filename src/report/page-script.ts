/**
 * The page's only script: it shows the questions that one arm got right more often than another. Without scripts all of them are there and
 * the form is not.
 */
export const pageScript = `
const form = document.querySelector('form');
if (form) {
  const [better, worse] = form.querySelectorAll('select');
  const shown = form.querySelector('output');
  const questions = [...document.querySelectorAll('.question')];
  const update = () => {
    let count = 0;
    for (const question of questions) {
      const shares = question.dataset.shares.split(' ').map(Number);
      const fits = better.value === '' || worse.value === '' || shares[better.value] > shares[worse.value];
      question.hidden = !fits;
      if (fits) count++;
    }
    shown.textContent = count + ' of ' + questions.length + ' shown';
  };
  form.hidden = false;
  form.addEventListener('change', update);
  form.addEventListener('submit', (event) => event.preventDefault());
  update();
}
`;
